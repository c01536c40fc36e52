/* SCI's estimator and division fused: rows of 8 or 16 bits in, rows of the same depth out.
 *
 * A strip of columns goes through all layers row by row, and of a layer's result only the rows are
 * kept that the next layer reads: so everything stays in the nearest caches. A row lies in memory
 * as planes, one for each channel. Beyond the frame features are zero, as padding has it; columns
 * that two strips need are computed twice.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
/* So many vectors of three outputs fill most of the vector registers: 32, or else 16 of them. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define TOGETHER 4
#else
#define TOGETHER 3
#endif
#define STEP (TOGETHER * LANES)

/* Columns of a strip; a plane has some before them and, since whole steps are computed, after. */
#define STRIP (512 / STEP * STEP)
#define BEFORE LANES
#define PLANE (BEFORE + STRIP + STEP + LANES)

/* GCC would load a value anew for each of its uses, and the loads take longer than the sums. */
#if defined(__x86_64__)
#define KEEP(value) __asm__("" : "+v"(value))
#else
#define KEEP(value)
#endif

#define INLINE static inline __attribute__((always_inline))
#define SMALLER(one, other) ((one) < (other) ? (one) : (other))
#define LARGER(one, other) ((one) > (other) ? (one) : (other))

/* Of images and, in this kernel, of all features. */
#define CHANNELS 3

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Row[CHANNELS][PLANE];

typedef struct {
    const float *weight, *bias; /* (CHANNELS, 3, 3, CHANNELS), (CHANNELS) */
} Convolution;

typedef struct {
    int64_t height, width, bytes; /* of the frame, and of a value in it */
    int64_t layers;
    Convolution first, block, last;
} Network;

/* The convolution of three rows, STEP columns from `at` on. */
INLINE void convolve(const Convolution *layer, Row *const rows[3], int64_t at,
                     Vector sums[CHANNELS][TOGETHER])
{
    for (int64_t c = 0; c < CHANNELS; c++)
        for (int64_t n = 0; n < TOGETHER; n++)
            sums[c][n] = (Vector){0} + layer->bias[c];
    const float *weight = layer->weight;
    for (int64_t input = 0; input < CHANNELS; input++)
#pragma GCC unroll 9
        for (int64_t tap = 0; tap < 9; tap++, weight += CHANNELS) {
            const float *from = &(*rows[tap / 3])[input][at + tap % 3 - 1];
            Vector values[TOGETHER];
            for (int64_t n = 0; n < TOGETHER; n++) {
                values[n] = *(const Vector *)(from + n * LANES);
                KEEP(values[n]);
            }
            for (int64_t c = 0; c < CHANNELS; c++)
                for (int64_t n = 0; n < TOGETHER; n++)
                    sums[c][n] += values[n] * weight[c];
        }
}

/* A row of features, to which those in the middle row may be added. */
INLINE void features(const Convolution *layer, int added, Row *const rows[3], Row *to,
                     int64_t columns)
{
    for (int64_t at = BEFORE; at < BEFORE + columns; at += STEP) {
        Vector sums[CHANNELS][TOGETHER];
        convolve(layer, rows, at, sums);
        for (int64_t c = 0; c < CHANNELS; c++)
            for (int64_t n = 0; n < TOGETHER; n++) {
                const int64_t place = at + n * LANES;
                /* What is not a number stays so. */
                Vector sum = (Vector)((Mask)sums[c][n] & ~(sums[c][n] < 0.0f));
                if (added)
                    sum += *(const Vector *)&(*rows[1])[c][place];
                *(Vector *)&(*to)[c][place] = sum;
            }
    }
}

/* e to the x for -80 <= x <= 80, within two units of the last place. */
INLINE float exponential(float x)
{
    const float magic = 12582912; /* adding it rounds to a whole number */
    const float shifted = x * 1.44269504f + magic, whole = shifted - magic;
    const float rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1;
    union {
        float number;
        uint32_t bits;
    } power = {shifted}; /* its lowest bits are the whole number's */
    power.bits = (power.bits << 23) + (127u << 23);
    return sum * power.number;
}

/* The enhanced row in levels, not truncated yet; whether all of it are numbers.
 *
 * With e = exp(-v), x over the illumination sigmoid(v) + x is x (1 + e) / (x (1 + e) + 1). The
 * illumination's bounds, 1e-4 and 1, make that at most 10000 x and at least x. Where the function is
 * inlined, GCC does not vectorise its last loop. */
__attribute__((noinline)) static int reflectance(const Network *network, Row *const rows[3],
                                                 Row *const image, Row *levels, int64_t columns)
{
    const float top = network->bytes == 1 ? 255 : 65535;
    float fault = 0;
    for (int64_t at = BEFORE; at < BEFORE + columns; at += STEP) {
        Vector sums[CHANNELS][TOGETHER];
        convolve(&network->last, rows, at, sums);
        for (int64_t c = 0; c < CHANNELS; c++)
            for (int64_t n = 0; n < TOGETHER; n++)
                *(Vector *)&(*levels)[c][at + n * LANES] = sums[c][n];
    }
    for (int64_t c = 0; c < CHANNELS; c++) {
        float *level = &(*levels)[c][BEFORE];
        const float *value = &(*image)[c][BEFORE];
#pragma omp simd reduction(+ : fault)
        for (int64_t at = 0; at < columns; at++) {
            const float v = level[at], x = value[at];
            fault += v - v;
            float e = -v < 80 ? -v : 80;
            e = exponential(e > -80 ? e : -80);
            const float raised = x + x * e, ratio = raised / (raised + 1);
            const float result = ratio > x ? ratio : x;
            level[at] = (result < x * 10000 ? result : x * 10000) * top;
        }
    }
    return fault == 0;
}

#define READ(TYPE)                                                                                 \
    for (int64_t x = 0; x < columns; x++)                                                          \
        for (int64_t c = 0; c < CHANNELS; c++)                                                            \
            (*to)[c][BEFORE + x] = ((const TYPE *)from)[CHANNELS * x + c] / top;

static void read_row(const void *from, int64_t bytes, Row *to, int64_t columns)
{
    const float top = bytes == 1 ? 255 : 65535;
    if (bytes == 1) {
        READ(uint8_t)
    } else {
        READ(uint16_t)
    }
}

#define WRITE(TYPE)                                                                                \
    for (int64_t x = 0; x < columns; x++)                                                          \
        for (int64_t c = 0; c < CHANNELS; c++)                                                            \
            ((TYPE *)to)[CHANNELS * x + c] = (int32_t)(*from)[c][first + x];

static void write_row(Row *const from, int64_t first, int64_t columns, void *to, int64_t bytes)
{
    if (bytes == 1) {
        WRITE(uint8_t)
    } else {
        WRITE(uint16_t)
    }
}

/* Zero what follows a row's columns: the padding, and what is read of it needlessly. */
INLINE void end(Row *row, int64_t columns)
{
    for (int64_t c = 0; c < CHANNELS; c++)
        memset(&(*row)[c][BEFORE + columns], 0, sizeof(float) * (STEP + 1));
}

/* Rows `top` to `bottom` - 1 of columns `left` to `right` - 1. */
static int strip(const Network *network, const char *pixels, char *result, Row *memory,
                 int64_t top, int64_t bottom, int64_t left, int64_t right)
{
    const int64_t layers = network->layers, halo = layers + 2, size = CHANNELS * network->bytes;
    const int64_t start = LARGER(left - halo, 0);
    const int64_t columns = SMALLER(right + halo, network->width) - start;
    Row *image = memory, *levels = image + halo + 1, *kept = levels + 1;
    int numbers = 1;
    for (int64_t y = top - halo; y < bottom + halo; y++) {
        Row *read = &image[(y + halo) % (halo + 1)];
        if (y < 0 || y >= network->height)
            memset(read, 0, sizeof(Row));
        else {
            read_row(pixels + (y * network->width + start) * size, network->bytes, read, columns);
            end(read, columns);
        }
        for (int64_t stage = 0; stage <= layers + 1; stage++) {
            /* The row in the middle of the three that the stage reads. */
            const int64_t row = y - 1 - stage, margin = halo - 1 - stage;
            if (row < top - margin || row >= bottom + margin)
                continue;
            Row *rows[3], *to = &kept[3 * stage + (row + halo) % 3];
            for (int64_t n = 0; n < 3; n++)
                rows[n] = stage == 0 ? &image[(row - 1 + n + halo) % (halo + 1)]
                                     : &kept[3 * (stage - 1) + (row - 1 + n + halo) % 3];
            if (stage == layers + 1) {
                Row *same = &image[(row + halo) % (halo + 1)];
                numbers &= reflectance(network, rows, same, levels, columns);
                write_row(levels, BEFORE + left - start, right - left,
                          result + (row * network->width + left) * size, network->bytes);
            } else if (row < 0 || row >= network->height)
                memset(to, 0, sizeof(Row));
            else {
                if (stage == 0)
                    features(&network->first, 0, rows, to, columns);
                else
                    features(&network->block, 1, rows, to, columns);
                end(to, columns);
            }
        }
    }
    return numbers;
}

/* Rows `top` to `bottom` - 1 of a frame (H, W, 3): 1, or 0 if some of it is not a number, or -1 if
 * there is no memory. */
int64_t enhance(const Network *network, const char *pixels, char *result, int64_t top,
                int64_t bottom)
{
    const int64_t halo = network->layers + 2, inner = STRIP - 2 * halo;
    Row *memory = calloc(halo + 2 + 3 * (network->layers + 1), sizeof(Row));
    if (!memory)
        return -1;
    int numbers = 1;
    for (int64_t left = 0; left < network->width; left += inner) {
        const int64_t right = SMALLER(left + inner, network->width);
        numbers &= strip(network, pixels, result, memory, top, bottom, left, right);
    }
    free(memory);
    return numbers;
}
