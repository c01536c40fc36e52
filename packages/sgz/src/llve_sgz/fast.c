/* SGZ fused: rows of 8 or 16 bits in, rows of the same depth out.
 *
 * The frame is reduced, goes through the seven layers, and what they give is enlarged, row by row
 * as rows of the result need it. Of a layer's result only the rows are kept that later layers read:
 * so all stays in a core's own caches. A pixel's features lie side by side. Beyond the reduced frame
 * they are zero, as padding has it; rows that two callers need are computed twice.
 */
#include "kernel.h"

/* So many pixels' sums fill the vector registers, of which half are for other things. */
#if defined(__AVX512F__)
#define TOGETHER 8
#elif defined(__AVX__) || defined(__aarch64__)
#define TOGETHER 2
#else
#define TOGETHER 1
#endif

#define FILTERS 32
#define VECTORS (FILTERS / LANES)
#define LAYERS 7
#define STEPS 8
/* Rows of a layer's features that are kept: the first layer's are read last, by the seventh, which
 * is six rows behind and reads one more. */
#define KEPT 8

typedef struct {
    const float *depth, *depth_bias; /* (9, inputs), (inputs) */
    const float *point, *point_bias; /* (inputs, FILTERS), the last layer's (CHANNELS, inputs) */
} Layer;

typedef struct {
    int64_t height, width, bytes; /* of the frame, and of a value in it */
    int64_t scale;
    Layer layers[LAYERS];
} Network;

/* What is computed for some rows of a frame. */
typedef struct {
    const Network *network;
    const char *pixels;
    int64_t rows, columns;           /* of the reduced frame */
    int64_t first, end;              /* the rows of the factor that are wanted */
    int64_t next;                    /* the row of the reduced frame that comes next */
    int64_t stride;                  /* values of a kept row: a pixel of zeros, the columns, more */
    float *kept[LAYERS];             /* (KEPT, stride): the reduced frame, and all but the last layer */
    float *blank, *mixed;            /* a row of zeros; (columns, 2 FILTERS), a depthwise part's */
    float *factor, *enlarged;        /* (columns, CHANNELS); (2, width, CHANNELS), two rows of it */
    float *across;                   /* of a column of the frame: how far it is from `left` */
    int64_t *left, *near[2];         /* its place in the factor; a reduced column's, in the frame */
} Work;

/* The hyperbolic tangent of each value; what is not a number stays so. */
static void tangents(float *values, int64_t count)
{
#pragma omp simd
    for (int64_t n = 0; n < count; n++) {
        const float value = values[n], doubled = 2 * value;
        const float below = doubled < 80 ? doubled : 80, e = exponential(below > -80 ? below : -80);
        values[n] = value == value ? (1 - e) / (1 + e) : value;
    }
}

/* Where a row or column of the reduced frame reads: the middle of its group, of two of them the
 * one of that side. Beyond the end lies the reflection, or the last one again where there is too
 * little to mirror. */
static int64_t middle(int64_t place, int64_t length, int64_t scale, int side, int is_mirrored)
{
    const int64_t at = place * scale + (scale - 1 + side) / 2, last = length - 1;
    return at <= last ? at : is_mirrored ? 2 * last - at : last;
}

static int can_mirror(const Work *work)
{
    const Network *network = work->network;
    return work->rows * network->scale < 2 * network->height &&
           work->columns * network->scale < 2 * network->width;
}

#define REDUCE(TYPE)                                                                               \
    static void reduce_##TYPE(const Work *work, const TYPE *upper, const TYPE *lower, float *to)   \
    {                                                                                              \
        const float whole = 4 * (float)(TYPE)-1;                                                   \
        for (int64_t x = 0; x < work->columns; x++)                                                \
            for (int64_t c = 0; c < CHANNELS; c++) {                                               \
                const int64_t left = CHANNELS * work->near[0][x] + c;                              \
                const int64_t right = CHANNELS * work->near[1][x] + c;                             \
                const int32_t sum = upper[left] + upper[right] + lower[left] + lower[right];       \
                to[CHANNELS * x + c] = sum / whole;                                                \
            }                                                                                      \
    }
REDUCE(uint8_t)
REDUCE(uint16_t)

static void reduce(const Work *work, int64_t row, float *to)
{
    const Network *network = work->network;
    const int64_t length = network->width * CHANNELS * network->bytes;
    const char *around[2];
    for (int side = 0; side < 2; side++)
        around[side] = work->pixels + length * middle(row, network->height, network->scale, side,
                                                      can_mirror(work));
    if (network->bytes == 1)
        reduce_uint8_t(work, (const uint8_t *)around[0], (const uint8_t *)around[1], to);
    else
        reduce_uint16_t(work, (const uint16_t *)around[0], (const uint16_t *)around[1], to);
}

/* The depthwise part of a layer for three rows of the reduced frame. */
static void depthwise_first(const Layer *layer, const float *const rows[3], int64_t columns,
                            float *to)
{
    for (int64_t x = 0; x < columns; x++)
        for (int64_t c = 0; c < CHANNELS; c++) {
            float sum = layer->depth_bias[c];
            for (int64_t tap = 0; tap < 9; tap++)
                sum += rows[tap / 3][CHANNELS * (x + tap % 3 - 1) + c] *
                       layer->depth[CHANNELS * tap + c];
            to[CHANNELS * x + c] = sum;
        }
}

/* Likewise for three rows of features, which are the layer's inputs from `offset` on. */
INLINE void depthwise(const Layer *layer, int64_t inputs, int64_t offset,
                      const float *const rows[3], int64_t columns, float *to)
{
    for (int64_t at = 0; at < FILTERS; at += LANES) {
        const Vector bias = *(const Vector *)&layer->depth_bias[offset + at];
        Vector weight[9];
        for (int64_t tap = 0; tap < 9; tap++)
            weight[tap] = *(const Vector *)&layer->depth[tap * inputs + offset + at];
        for (int64_t x = 0; x < columns; x++) {
            Vector sum = bias;
            for (int64_t tap = 0; tap < 9; tap++)
                sum += weight[tap] *
                       *(const Vector *)&rows[tap / 3][FILTERS * (x + tap % 3 - 1) + at];
            *(Vector *)&to[inputs * x + offset + at] = sum;
        }
    }
}

/* The pointwise part, without what is negative; what is not a number stays so. */
INLINE void pointwise(const Layer *layer, int64_t inputs, const float *from, int64_t columns,
                      float *to)
{
    for (int64_t x = 0; x < columns; x += TOGETHER) {
        Vector sums[TOGETHER][VECTORS];
        for (int64_t n = 0; n < TOGETHER; n++)
            for (int64_t v = 0; v < VECTORS; v++)
                sums[n][v] = *(const Vector *)&layer->point_bias[LANES * v];
        for (int64_t input = 0; input < inputs; input++)
            for (int64_t n = 0; n < TOGETHER; n++)
                for (int64_t v = 0; v < VECTORS; v++)
                    sums[n][v] += from[inputs * (x + n) + input] *
                                  *(const Vector *)&layer->point[FILTERS * input + LANES * v];
        for (int64_t n = 0; n < TOGETHER; n++)
            for (int64_t v = 0; v < VECTORS; v++)
                *(Vector *)&to[FILTERS * (x + n) + LANES * v] =
                    (Vector)((Mask)sums[n][v] & ~(sums[n][v] < 0.0f));
    }
    memset(to + FILTERS * columns, 0, FILTERS * sizeof(float)); /* the padding */
}

static void pointwise_last(const Layer *layer, const float *from, int64_t columns, float *to)
{
    for (int64_t x = 0; x < columns; x++)
        for (int64_t c = 0; c < CHANNELS; c++) {
            Vector sums = {0};
            for (int64_t input = 0; input < 2 * FILTERS; input += LANES)
                sums += *(const Vector *)&from[2 * FILTERS * x + input] *
                        *(const Vector *)&layer->point[2 * FILTERS * c + input];
            float sum = layer->point_bias[c];
            for (int64_t lane = 0; lane < LANES; lane++)
                sum += sums[lane];
            to[CHANNELS * x + c] = sum;
        }
}

/* Three rows of what a layer gave, or of the reduced frame, each from its first pixel on. */
INLINE void around(const Work *work, int64_t layer, int64_t row, const float *rows[3])
{
    for (int64_t n = 0; n < 3; n++) {
        const int64_t at = row - 1 + n, is_beyond = at < 0 || at >= work->rows;
        rows[n] = is_beyond ? work->blank : work->kept[layer] + at % KEPT * work->stride;
        rows[n] += layer == 0 ? CHANNELS : FILTERS;
    }
}

/* A row that a layer, counted from 1, gives. The fifth, sixth and seventh read what the third, second
 * and first gave beside what the one before them did. */
static void compute(const Work *work, int64_t layer, int64_t row)
{
    const Layer *weights = &work->network->layers[layer - 1];
    const int64_t columns = work->columns, is_joined = layer > 4;
    const float *rows[3];
    around(work, is_joined ? 8 - layer : layer - 1, row, rows);
    if (layer == 1)
        depthwise_first(weights, rows, columns, work->mixed);
    else if (!is_joined)
        depthwise(weights, FILTERS, 0, rows, columns, work->mixed);
    else {
        depthwise(weights, 2 * FILTERS, 0, rows, columns, work->mixed);
        around(work, layer - 1, row, rows);
        depthwise(weights, 2 * FILTERS, FILTERS, rows, columns, work->mixed);
    }
    if (layer == LAYERS) {
        pointwise_last(weights, work->mixed, columns, work->factor);
        return;
    }
    float *to = work->kept[layer] + row % KEPT * work->stride + FILTERS;
    if (layer == 1)
        pointwise(weights, CHANNELS, work->mixed, columns, to);
    else if (!is_joined)
        pointwise(weights, FILTERS, work->mixed, columns, to);
    else
        pointwise(weights, 2 * FILTERS, work->mixed, columns, to);
}

/* Reduce the next row of the frame, and let each layer go on by a row, the factor's at last. */
static void advance(Work *work)
{
    const int64_t next = work->next++;
    if (next < SMALLER(work->end + LAYERS, work->rows))
        reduce(work, next, work->kept[0] + next % KEPT * work->stride + CHANNELS);
    for (int64_t layer = 1; layer <= LAYERS; layer++) {
        const int64_t row = next - layer, margin = LAYERS - layer;
        if (row >= LARGER(work->first - margin, 0) && row < SMALLER(work->end + margin, work->rows))
            compute(work, layer, row);
    }
}

/* A row of the factor, enlarged along itself. */
static float *factor_row(Work *work, int64_t row)
{
    const int64_t width = work->network->width, last = work->columns - 1;
    float *to = work->enlarged + row % 2 * CHANNELS * width;
    while (work->next <= row + LAYERS)
        advance(work);
    tangents(work->factor, CHANNELS * work->columns);
    for (int64_t x = 0; x < width; x++)
        for (int64_t c = 0; c < CHANNELS; c++) {
            const float one = work->factor[CHANNELS * work->left[x] + c];
            const float other = work->factor[CHANNELS * SMALLER(work->left[x] + 1, last) + c];
            to[CHANNELS * x + c] = one * (1 - work->across[x]) + other * work->across[x];
        }
    return to;
}

/* Whether all values of a row are numbers; halves are rounded up. */
#define ENHANCE_ROW(TYPE)                                                                          \
    static int enhance_row_##TYPE(const TYPE *pixels, TYPE *result, int64_t values,                \
                                  const float *upper, const float *lower, float down)              \
    {                                                                                              \
        const float top = (TYPE)-1;                                                                \
        float fault = 0;                                                                           \
        _Pragma("omp simd reduction(+ : fault)")                                                   \
        for (int64_t at = 0; at < values; at++) {                                                  \
            const float factor = upper[at] * (1 - down) + lower[at] * down;                        \
            float value = pixels[at] / top;                                                        \
            for (int step = 0; step < STEPS; step++)                                               \
                value -= factor * (value - value * value);                                         \
            value = value < 0 ? 0 : value;                                                         \
            value = value > 1 ? 1 : value;                                                         \
            fault += value - value;                                                                \
            result[at] = (int32_t)(value * top + 0.5f);                                            \
        }                                                                                          \
        return fault == 0;                                                                         \
    }
ENHANCE_ROW(uint8_t)
ENHANCE_ROW(uint16_t)

/* Lay out the work's memory, or tell how many bytes it needs. */
static size_t lay_out(Work *work, char *memory)
{
    const int64_t width = work->network->width, columns = work->columns;
    const int64_t some = columns + TOGETHER; /* whole steps of pixels are computed */
    uintptr_t at = (uintptr_t)memory;
#define TAKE(pointer, count)                                                                       \
    pointer = (void *)at, at += ((count) * sizeof *(pointer) + 63) / 64 * 64
    work->stride = (some + 2) * FILTERS;
    for (int64_t layer = 0; layer < LAYERS; layer++)
        TAKE(work->kept[layer], KEPT * work->stride);
    TAKE(work->blank, work->stride);
    TAKE(work->mixed, some * 2 * FILTERS);
    TAKE(work->factor, columns * CHANNELS);
    TAKE(work->enlarged, 2 * width * CHANNELS);
    TAKE(work->across, width);
    TAKE(work->left, width);
    TAKE(work->near[0], columns);
    TAKE(work->near[1], columns);
#undef TAKE
    return at - (uintptr_t)memory;
}

/* Neighbouring rows or columns of the frame, in the factor's; corners are aligned, in float as in
 * PyTorch. */
static float spacing(int64_t count, int64_t scale)
{
    return (float)(count - 1) / (float)LARGER(count * scale - 1, 1);
}

/* Rows `top` to `bottom` - 1 of a frame (H, W, 3): 1, or 0 if some of it is not a number, or -1 if
 * there is no memory. */
int64_t enhance(const Network *network, const char *pixels, char *result, int64_t top,
                int64_t bottom)
{
    const int64_t scale = network->scale, width = network->width, values = width * CHANNELS;
    Work work = {.network = network, .pixels = pixels};
    work.rows = (network->height + scale - 1) / scale;
    work.columns = (width + scale - 1) / scale;
    const int64_t last = work.rows - 1;
    const float down = spacing(work.rows, scale), right = spacing(work.columns, scale);
    work.first = SMALLER((int64_t)(top * down), last);
    work.end = SMALLER((int64_t)((bottom - 1) * down) + 1, last) + 1;
    work.next = LARGER(work.first - LAYERS, 0);
    const size_t bytes = lay_out(&work, NULL);
    char *memory = aligned_alloc(64, bytes);
    if (!memory)
        return -1;
    memset(memory, 0, bytes);
    lay_out(&work, memory);
    count_small_numbers_as_zero();
    for (int64_t x = 0; x < work.columns; x++)
        for (int side = 0; side < 2; side++)
            work.near[side][x] = middle(x, width, scale, side, can_mirror(&work));
    for (int64_t x = 0; x < width; x++) {
        work.left[x] = SMALLER((int64_t)(x * right), work.columns - 1);
        work.across[x] = x * right - work.left[x];
    }
    const float *upper = NULL, *lower = factor_row(&work, work.first);
    int64_t reached = work.first;
    int numbers = 1;
    for (int64_t row = top; row < bottom; row++) {
        const int64_t above = SMALLER((int64_t)(row * down), last);
        for (; reached < SMALLER(above + 1, last); reached++) {
            upper = lower;
            lower = factor_row(&work, reached + 1);
        }
        const float share = row * down - above, *over = above == reached ? lower : upper;
        const int64_t at = row * values * network->bytes;
        if (network->bytes == 1)
            numbers &= enhance_row_uint8_t((const uint8_t *)(pixels + at), (uint8_t *)(result + at),
                                           values, over, lower, share);
        else
            numbers &= enhance_row_uint16_t((const uint16_t *)(pixels + at),
                                            (uint16_t *)(result + at), values, over, lower, share);
    }
    free(memory);
    return numbers;
}
