/* SCI's estimator and division fused: rows of 8 or 16 bits in, rows of the same depth out.
 *
 * A strip of columns goes through all layers two rows at a time, and of a layer's result only the
 * rows are kept that the next layer reads: so everything stays in a core's own caches. A row lies
 * in memory as planes, one for each channel. Beyond the frame features are zero, as padding has it;
 * columns that two strips need are computed twice.
 *
 * Two rows of a convolution take four products with sums of rows, not six with rows (Winograd's
 * F(2, 3) down the columns).
 */
#include "kernel.h"

/* So many vectors of three outputs fill most of the vector registers: 32, or else 16 of them. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define TOGETHER 4
#else
#define TOGETHER 3
#endif
#define STEP (TOGETHER * LANES)

/* Columns of a strip, of which a frame of 1920 columns is one, and of a block, whose sums of rows
 * fit into the nearest cache. A plane has some columns before a strip's and, since whole blocks are
 * read, after them; it is a number of whole cache lines, which is written faster. */
#define STRIP (1984 / STEP * STEP)
#define BLOCK (128 / STEP * STEP)
#define BEFORE LANES
#define SPAN (BEFORE + BLOCK + LANES)
#define PLANE ((STRIP + SPAN + 15) / 16 * 16)
#define WHOLE(columns) (((columns) + LANES - 1) / LANES * LANES)

/* GCC would load a value anew for each of its uses, and the loads take longer than the sums. */
#if defined(__x86_64__)
#define KEEP(value) __asm__("" : "+v"(value))
#else
#define KEEP(value)
#endif

/* All features have as many channels as images. */
typedef float Row[CHANNELS][PLANE];
typedef float Sums[4][CHANNELS][SPAN];

typedef struct {
    const float (*weight)[CHANNELS][3][CHANNELS]; /* of each product: input, column, output */
    const float *bias;                            /* (CHANNELS) */
} Convolution;

typedef struct {
    int64_t height, width, bytes; /* of the frame, and of a value in it */
    int64_t layers;
    Convolution first, block, last;
} Network;

/* The sums of four rows from which two are made, for a block from `at` on and what is beside it. */
INLINE void add_rows(Row *const rows[4], int64_t at, Sums *to)
{
    for (int64_t c = 0; c < CHANNELS; c++)
        for (int64_t x = 0; x < SPAN; x += LANES) {
            Vector row[4];
            for (int64_t n = 0; n < 4; n++)
                row[n] = *(const Vector *)&(*rows[n])[c][at - BEFORE + x];
            *(Vector *)&(*to)[0][c][x] = row[0] - row[2];
            *(Vector *)&(*to)[1][c][x] = row[1] + row[2];
            *(Vector *)&(*to)[2][c][x] = row[2] - row[1];
            *(Vector *)&(*to)[3][c][x] = row[3] - row[1];
        }
}

/* Add the product of one of those sums, STEP columns from `at` on. */
INLINE void multiply(const float weight[CHANNELS][3][CHANNELS], const float from[CHANNELS][SPAN],
                     int64_t at, Vector to[CHANNELS][TOGETHER])
{
    for (int64_t input = 0; input < CHANNELS; input++)
#pragma GCC unroll 3
        for (int64_t tap = 0; tap < 3; tap++) {
            Vector values[TOGETHER];
            for (int64_t n = 0; n < TOGETHER; n++) {
                values[n] = *(const Vector *)&from[input][at + tap - 1 + n * LANES];
                KEEP(values[n]);
            }
            for (int64_t c = 0; c < CHANNELS; c++)
                for (int64_t n = 0; n < TOGETHER; n++)
                    to[c][n] += values[n] * weight[input][tap][c];
        }
}

/* Write a result from `at` on: features are not negative, and a row may be added to them. */
INLINE void keep(Vector result[CHANNELS][TOGETHER], int are_features, Row *added, Row *to,
                 int64_t at)
{
    for (int64_t c = 0; c < CHANNELS; c++)
        for (int64_t n = 0; n < TOGETHER; n++) {
            Vector value = result[c][n];
            if (are_features) /* What is not a number stays so. */
                value = (Vector)((Mask)value & ~(value < 0.0f));
            if (added)
                value += *(const Vector *)&(*added)[c][at + n * LANES];
            *(Vector *)&(*to)[c][at + n * LANES] = value;
        }
}

/* The convolution of four rows, which gives two. */
INLINE void convolve(const Convolution *layer, int are_features, int are_added, Row *const rows[4],
                     Row *const to[2], int64_t columns)
{
    Sums sums;
    for (int64_t at = BEFORE; at < BEFORE + columns; at += STEP) {
        const int64_t x = (at - BEFORE) % BLOCK + BEFORE;
        if (x == BEFORE)
            add_rows(rows, at, &sums);
        Vector both[CHANNELS][TOGETHER], upper[CHANNELS][TOGETHER] = {0}, lower[CHANNELS][TOGETHER];
        for (int64_t c = 0; c < CHANNELS; c++)
            for (int64_t n = 0; n < TOGETHER; n++)
                both[c][n] = (Vector){0} + layer->bias[c];
        multiply(layer->weight[1], sums[1], x, both);
        multiply(layer->weight[2], sums[2], x, upper);
        for (int64_t c = 0; c < CHANNELS; c++)
            for (int64_t n = 0; n < TOGETHER; n++) {
                lower[c][n] = both[c][n] - upper[c][n];
                upper[c][n] += both[c][n];
            }
        multiply(layer->weight[0], sums[0], x, upper);
        keep(upper, are_features, are_added ? rows[1] : NULL, to[0], at);
        multiply(layer->weight[3], sums[3], x, lower);
        keep(lower, are_features, are_added ? rows[2] : NULL, to[1], at);
    }
}

/* e to the minus each value of a row; whether all are numbers. Where the function is inlined, GCC
 * does not vectorise it. */
__attribute__((noinline)) static int exponentials(Row *row, int64_t columns)
{
    float sum = 0, most = 80, least = -80;
    KEEP(most); /* GCC would make branches of constants */
    KEEP(least);
    for (int64_t c = 0; c < CHANNELS; c++) {
        float *values = &(*row)[c][BEFORE];
#pragma omp simd reduction(+ : sum)
        for (int64_t x = 0; x < WHOLE(columns); x++) {
            sum += values[x];
            const float bounded = values[x] < most ? values[x] : most;
            values[x] = exponential(bounded > least ? bounded : least);
        }
    }
    return sum == sum;
}

/* Pixels to a row and back, each by way of planes of whole numbers.
 *
 * x / top is x / (top + 1) and as much again / top, rounded once: the first is exact. With the
 * exponentials e, x over the illumination 1 / (1 + e) + x is x (1 + e) / (x (1 + e) + 1). The
 * illumination's bounds, 1e-4 and 1, make that at most 10000 x, which one of 8 bits is beyond only
 * where it is zero, and at least x. Levels are truncated. */
#define READ_AND_WRITE(TYPE)                                                                       \
    static void read_##TYPE(const TYPE *restrict pixels, Row *restrict to, int64_t columns)        \
    {                                                                                              \
        const float top = (TYPE)-1, major = 1 / (top + 1), minor = major / top;                    \
        TYPE planes[CHANNELS][PLANE];                                                              \
        for (int64_t x = 0; x < columns; x++)                                                      \
            for (int64_t c = 0; c < CHANNELS; c++)                                                 \
                planes[c][x] = pixels[CHANNELS * x + c];                                           \
        for (int64_t c = 0; c < CHANNELS; c++)                                                     \
            for (int64_t x = 0; x < WHOLE(columns); x++)                                           \
                (*to)[c][BEFORE + x] = planes[c][x] * major + planes[c][x] * minor;                \
    }                                                                                              \
    static void write_##TYPE(Row *restrict image, Row *restrict exponentials, int64_t first,       \
                             int64_t columns, TYPE *restrict pixels)                               \
    {                                                                                              \
        const float top = (TYPE)-1;                                                                \
        TYPE planes[CHANNELS][PLANE];                                                              \
        for (int64_t c = 0; c < CHANNELS; c++)                                                     \
            for (int64_t at = 0; at < WHOLE(columns); at++) {                                      \
                const float x = (*image)[c][first + at], e = (*exponentials)[c][first + at];       \
                const float raised = x + x * e, ratio = raised / (raised + 1);                     \
                float level = ratio > x ? ratio : x;                                               \
                if (sizeof(TYPE) > 1)                                                              \
                    level = level < x * 10000 ? level : x * 10000;                                 \
                planes[c][at] = (int32_t)(level * top);                                            \
            }                                                                                      \
        for (int64_t x = 0; x < columns; x++)                                                      \
            for (int64_t c = 0; c < CHANNELS; c++)                                                 \
                pixels[CHANNELS * x + c] = planes[c][x];                                           \
    }
READ_AND_WRITE(uint8_t)
READ_AND_WRITE(uint16_t)

/* Zero a row that is beyond the frame, and else what follows its columns: the padding, and what is
 * read of it needlessly. */
INLINE void pad(Row *row, int is_beyond, int64_t columns)
{
    if (is_beyond)
        memset(row, 0, sizeof(Row));
    else
        for (int64_t c = 0; c < CHANNELS; c++)
            for (int64_t x = 0; x <= STEP; x += LANES)
                *(Vector *)&(*row)[c][BEFORE + columns + x] = (Vector){0};
}

/* Rows `top` to `bottom` - 1 of columns `left` to `right` - 1. */
static int strip(const Network *network, const char *pixels, char *result, Row *memory,
                 int64_t top, int64_t bottom, int64_t left, int64_t right)
{
    const int64_t layers = network->layers, halo = layers + 2, size = CHANNELS * network->bytes;
    const int64_t start = LARGER(left - halo, 0), kept_image = halo + 2;
    const int64_t columns = SMALLER(right + halo, network->width) - start;
    Row *image = memory, *last = image + kept_image, *kept = last + 2;
    int numbers = 1;
    for (int64_t y = top - halo; y < bottom + halo; y += 2) {
        for (int64_t row = y; row < y + 2; row++) {
            Row *to = &image[(row + halo) % kept_image];
            const char *from = pixels + (row * network->width + start) * size;
            const int is_beyond = row < 0 || row >= network->height;
            if (!is_beyond && network->bytes == 1)
                read_uint8_t((const uint8_t *)from, to, columns);
            else if (!is_beyond)
                read_uint16_t((const uint16_t *)from, to, columns);
            pad(to, is_beyond, columns);
        }
        for (int64_t stage = 0; stage <= layers + 1; stage++) {
            /* The first of the two rows that the stage makes. */
            const int64_t first = y - 1 - stage, margin = halo - 1 - stage;
            if (first < top - margin || first >= bottom + margin)
                continue;
            Row *rows[4], *to[2];
            for (int64_t n = 0; n < 4; n++)
                rows[n] = stage == 0 ? &image[(first - 1 + n + halo) % kept_image]
                                     : &kept[4 * (stage - 1) + (first - 1 + n + halo) % 4];
            for (int64_t n = 0; n < 2; n++)
                to[n] = stage > layers ? &last[n] : &kept[4 * stage + (first + n + halo) % 4];
            if (stage == 0)
                convolve(&network->first, 1, 0, rows, to, columns);
            else if (stage <= layers)
                convolve(&network->block, 1, 1, rows, to, columns);
            else
                convolve(&network->last, 0, 0, rows, to, columns);
            for (int64_t row = first; row < first + 2; row++) {
                if (stage <= layers) {
                    pad(to[row - first], row < 0 || row >= network->height, columns);
                } else if (row < bottom) {
                    Row *same = &image[(row + halo) % kept_image], *values = to[row - first];
                    char *at = result + (row * network->width + left) * size;
                    numbers &= exponentials(values, columns);
                    if (network->bytes == 1)
                        write_uint8_t(same, values, BEFORE + left - start, right - left,
                                      (uint8_t *)at);
                    else
                        write_uint16_t(same, values, BEFORE + left - start, right - left,
                                       (uint16_t *)at);
                }
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
    const size_t bytes = (halo + 4 + 4 * (network->layers + 1)) * sizeof(Row);
    Row *memory = aligned_alloc(64, bytes);
    if (!memory)
        return -1;
    memset(memory, 0, bytes);
    count_small_numbers_as_zero();
    int numbers = 1;
    for (int64_t left = 0; left < network->width; left += inner) {
        const int64_t right = SMALLER(left + inner, network->width);
        numbers &= strip(network, pixels, result, memory, top, bottom, left, right);
    }
    free(memory);
    return numbers;
}
