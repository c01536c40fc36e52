/* Deformable convolution of one image, a block of output positions at a time.
 *
 * A column holds, for one output position, the samples of some deformable groups: (groups, taps,
 * channels of a group). Forward, each group's columns are multiplied by the weight as soon as they
 * are made, while they are in the nearest cache. Backward, the caller multiplies, a block at a time.
 *
 * Images are (groups, height + 3, width + 2, channels of a group): a sample reads two runs of
 * memory, and few cache lines are touched that it does not need. The border is zero, two rows above
 * and one pixel elsewhere, so that no pixel needs a check whether it exists.
 *
 * REAL is float or double, WIDTH the largest width of a block: both given to the compiler. Sums over
 * channels may be taken in any order (omp simd); all else is plain IEEE.
 */
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

#define CACHE_LINE 64

/* A sample is seldom further than this many rows from where the plain convolution's would be. */
#define REACH 11

/* A tile of sums fills most of the vector registers: 32, or else 16 of them. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_VECTORS 4
#else
#define TILE_VECTORS 2
#endif
#define TILE_POSITIONS 6
#define LANES (VECTOR_BYTES / (int64_t)sizeof(REAL))
#define TILE_OUTPUTS (TILE_VECTORS * LANES)

#define INLINE static inline __attribute__((always_inline))

typedef REAL Vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

/* For the caller, which lays out memory in whole tiles. */
const int64_t tile_positions = TILE_POSITIONS, tile_outputs = TILE_OUTPUTS;

typedef struct {
    int64_t height, width, channels, groups; /* of the image; deformable groups */
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    int64_t output_height, output_width;
    int64_t offset_stride[2], mask_stride[2]; /* from channel to channel, and between positions */
} Layer;

/* A rectangle of output positions, and some deformable groups. */
typedef struct {
    int64_t row, column, rows, columns;
    int64_t first_group, groups;
} Part;

/* Where one tap of one group samples, for a row of a part. */
typedef struct {
    int32_t pixel[WIDTH]; /* the one above and left of it */
    REAL down[WIDTH], across[WIDTH], mask[WIDTH]; /* fractions of a pixel, from that one's centre */
    REAL left[WIDTH], right[WIDTH];               /* the weights of both columns of pixels */
} Samples;

INLINE int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

INLINE void prefetch(const REAL *from, int64_t count)
{
    for (int64_t at = 0; at < count; at += CACHE_LINE / sizeof(REAL))
        __builtin_prefetch(from + at, 0, 2);
}

/* What is `stride` apart side by side: in place, with what is `next` away on its way, or copied. */
INLINE const REAL *gather(int64_t count, const REAL *from, int64_t stride, int64_t next, REAL *copy)
{
    if (stride == 1) {
        prefetch(from + next, count);
        return from;
    }
    for (int64_t p = 0; p < count; p++)
        copy[p] = from[p * stride];
    return copy;
}

static void locate(const Layer *layer, const Part *part, int64_t row, int64_t group, int64_t tap,
                   const REAL *offset, const REAL *mask, Samples *samples)
{
    const int64_t count = part->columns, at = row * layer->output_width + part->column;
    const int64_t channel = group * layer->kernel[0] * layer->kernel[1] + tap;
    const int64_t *apart = layer->offset_stride, *mask_apart = layer->mask_stride;
    const int64_t next_row = layer->output_width;
    REAL copies[3][WIDTH];
    offset += 2 * channel * apart[0] + at * apart[1];
    mask += channel * mask_apart[0] + at * mask_apart[1];
    const REAL *offset_y = gather(count, offset, apart[1], next_row, copies[0]);
    const REAL *offset_x = gather(count, offset + apart[0], apart[1], next_row, copies[1]);
    const REAL *masks = gather(count, mask, mask_apart[1], next_row, copies[2]);

    const REAL height = layer->height, width = layer->width, stride = layer->stride[1];
    const REAL first_y = row * layer->stride[0] - layer->padding[0]
                       + tap / layer->kernel[1] * layer->dilation[0];
    const REAL first_x = part->column * layer->stride[1] - layer->padding[1]
                       + tap % layer->kernel[1] * layer->dilation[1];
    const int32_t row_length = layer->width + 2;
#pragma omp simd
    for (int32_t p = 0; p < count; p++) {
        REAL y = first_y + offset_y[p], x = first_x + p * stride + offset_x[p];
        const int inside = (y > -1) & (y < height) & (x > -1) & (x < width);
        /* Elsewhere, and where it is not a number, in the border's corner: value and slopes 0. */
        y = inside ? y : -2;
        x = inside ? x : -1;
        const REAL above = floor(y), before = floor(x), right = (x - before) * masks[p];
        samples->pixel[p] = ((int32_t)above + 2) * row_length + (int32_t)before + 1;
        samples->down[p] = y - above;
        samples->across[p] = x - before;
        samples->mask[p] = masks[p];
        samples->left[p] = masks[p] - right;
        samples->right[p] = right;
    }
}

/* Fill in one tap of one group of columns that are `stride` apart. */
INLINE void blend(const Layer *layer, int64_t count, const Samples *samples, const REAL *image,
                  REAL *columns, int64_t stride, const int64_t channels)
{
    const int64_t row_length = (layer->width + 2) * channels;
    for (int64_t p = 0; p < count; p++) {
        const REAL *above = image + samples->pixel[p] * channels, *below = above + row_length;
        const REAL down = samples->down[p], up = 1 - down;
        const REAL left = samples->left[p], right = samples->right[p];
        REAL *column = columns + p * stride;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++)
            column[c] = left * (up * above[c] + down * below[c])
                      + right * (up * above[channels + c] + down * below[channels + c]);
    }
}

/* The same backward: columns hold their own gradient and receive the samples; dots are the products
 * of that gradient with the four pixels. */
INLINE void blend_backward(const Layer *layer, int64_t count, const Samples *samples,
                           const REAL *image, REAL *grad_image, REAL *columns, int64_t stride,
                           REAL dots[4][WIDTH], const int64_t channels)
{
    const int64_t row_length = (layer->width + 2) * channels;
    for (int64_t p = 0; p < count; p++) {
        const int64_t start = samples->pixel[p] * channels;
        const REAL *above = image + start, *below = above + row_length;
        REAL *grad_above = grad_image + start, *grad_below = grad_above + row_length;
        const REAL down = samples->down[p], up = 1 - down;
        const REAL weight[4] = {up * samples->left[p], up * samples->right[p],
                                down * samples->left[p], down * samples->right[p]};
        REAL *column = columns + p * stride;
        REAL dot0 = 0, dot1 = 0, dot2 = 0, dot3 = 0;
#pragma omp simd reduction(+ : dot0, dot1, dot2, dot3)
        for (int64_t c = 0; c < channels; c++) {
            const REAL grad = column[c];
            dot0 += grad * above[c];
            dot1 += grad * above[channels + c];
            dot2 += grad * below[c];
            dot3 += grad * below[channels + c];
            column[c] = weight[0] * above[c] + weight[1] * above[channels + c]
                      + weight[2] * below[c] + weight[3] * below[channels + c];
            grad_above[c] += weight[0] * grad;
            grad_above[channels + c] += weight[1] * grad;
            grad_below[c] += weight[2] * grad;
            grad_below[channels + c] += weight[3] * grad;
        }
        dots[0][p] = dot0;
        dots[1][p] = dot1;
        dots[2][p] = dot2;
        dots[3][p] = dot3;
    }
}

/* Short runs of channels are several times as fast when the compiler knows their length. */
#define FOR_CHANNELS(channels, CALL) \
    switch (channels) {              \
    case 4: CALL(4); break;          \
    case 8: CALL(8); break;          \
    case 16: CALL(16); break;        \
    default: CALL(channels);         \
    }

INLINE void arrange_pixels(const Layer *layer, int64_t first, int64_t beyond, const REAL *image,
                           int64_t pixel_stride, int64_t channel_stride, REAL *arranged,
                           const int64_t channels)
{
    const int64_t group_size = (layer->height + 3) * (layer->width + 2);
    for (int64_t p = first; p < beyond; p++) {
        const int64_t at = (p / layer->width + 2) * (layer->width + 2) + p % layer->width + 1;
        for (int64_t group = 0; group < layer->groups; group++)
            for (int64_t c = 0; c < channels; c++)
                arranged[(group * group_size + at) * channels + c] =
                    image[p * pixel_stride + (group * channels + c) * channel_stride];
    }
}

/* Copy pixels `first` to `beyond` of an image of any layout into the layout described above. */
void arrange(const Layer *layer, int64_t first, int64_t beyond, const REAL *image,
             int64_t pixel_stride, int64_t channel_stride, REAL *arranged)
{
#define CALL(N) \
    arrange_pixels(layer, first, beyond, image, pixel_stride, channel_stride, arranged, N)
    FOR_CHANNELS(layer->channels / layer->groups, CALL)
#undef CALL
}

/* Add columns (TILE_POSITIONS, depth) x panel (depth, TILE_OUTPUTS) to a tile of sums. */
INLINE void multiply(int64_t depth, const REAL *columns, const REAL *panel, REAL *sums)
{
    Vector tile[TILE_POSITIONS][TILE_VECTORS];
    for (int p = 0; p < TILE_POSITIONS; p++)
        for (int v = 0; v < TILE_VECTORS; v++)
            tile[p][v] = *(const Vector *)(sums + p * TILE_OUTPUTS + v * LANES);
    for (int64_t k = 0; k < depth; k++) {
        Vector row[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++)
            row[v] = *(const Vector *)(panel + k * TILE_OUTPUTS + v * LANES);
        for (int p = 0; p < TILE_POSITIONS; p++)
            for (int v = 0; v < TILE_VECTORS; v++)
                tile[p][v] += columns[p * depth + k] * row[v];
    }
    for (int p = 0; p < TILE_POSITIONS; p++)
        for (int v = 0; v < TILE_VECTORS; v++)
            *(Vector *)(sums + p * TILE_OUTPUTS + v * LANES) = tile[p][v];
}

/* Sample one group for a row of a part. */
static void sample(const Layer *layer, const Part *part, int64_t row, int64_t group,
                   const REAL *image, const REAL *offset, const REAL *mask, REAL *columns)
{
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t channels = layer->channels / layer->groups, row_length = layer->width + 2;
    const REAL *from = image + group * (layer->height + 3) * row_length * channels;
    const int64_t soon = smaller(row * layer->stride[0] + REACH, layer->height) * row_length
                       + smaller(part->column * layer->stride[1], layer->width);
    prefetch(from + soon * channels, smaller(part->columns * layer->stride[1], row_length) * channels);
    Samples samples;
    for (int64_t tap = 0; tap < taps; tap++) {
        locate(layer, part, row, group, tap, offset, mask, &samples);
        REAL *to = columns + tap * channels;
#define CALL(N) blend(layer, part->columns, &samples, from, to, taps * channels, N)
        FOR_CHANNELS(channels, CALL)
#undef CALL
    }
}

/* Fill in the part of output (positions, outputs).
 *
 * image as described above, offset (groups, taps, 2, positions) and mask (groups, taps, positions)
 * with the layer's strides: all of the image, whatever the part, which has all groups. Outputs come
 * in tiles: panels are (tiles, groups, taps, channels of a group, TILE_OUTPUTS) of the weight, bias
 * (tiles, TILE_OUTPUTS). Memory: columns of one group and sums (rows, tiles, positions,
 * TILE_OUTPUTS), for the positions of one row in whole tiles. */
void convolve(const Layer *layer, const Part *part, const REAL *image, const REAL *offset,
              const REAL *mask, const REAL *panels, const REAL *bias, int64_t outputs, REAL *output,
              REAL *columns, REAL *sums)
{
    const int64_t depth = layer->kernel[0] * layer->kernel[1] * layer->channels / layer->groups;
    const int64_t tiles = (outputs + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    const int64_t positions = (part->columns + TILE_POSITIONS - 1) / TILE_POSITIONS * TILE_POSITIONS;
    const int64_t tile_size = positions * TILE_OUTPUTS, panel_size = depth * TILE_OUTPUTS;
    for (int64_t tile = 0; tile < part->rows * tiles; tile++)
        for (int64_t p = 0; p < positions; p++)
            memcpy(sums + tile * tile_size + p * TILE_OUTPUTS, bias + tile % tiles * TILE_OUTPUTS,
                   TILE_OUTPUTS * sizeof(REAL));
    for (int64_t group = 0; group < layer->groups; group++)
        for (int64_t row = 0; row < part->rows; row++) {
            sample(layer, part, part->row + row, group, image, offset, mask, columns);
            for (int64_t tile = 0; tile < tiles; tile++)
                for (int64_t p = 0; p < positions; p += TILE_POSITIONS)
                    multiply(depth, columns + p * depth,
                             panels + (tile * layer->groups + group) * panel_size,
                             sums + (row * tiles + tile) * tile_size + p * TILE_OUTPUTS);
        }
    for (int64_t tile = 0; tile < part->rows * tiles; tile++) {
        const int64_t row = part->row + tile / tiles, first = tile % tiles * TILE_OUTPUTS;
        REAL *to = output + (row * layer->output_width + part->column) * outputs + first;
        for (int64_t p = 0; p < part->columns; p++)
            memcpy(to + p * outputs, sums + tile * tile_size + p * TILE_OUTPUTS,
                   smaller(outputs - first, TILE_OUTPUTS) * sizeof(REAL));
    }
}

/* Turn columns (positions, the part's groups, taps, channels of a group) that hold their own gradient
 * into samples, add to the gradient of the image, and write those of offset and mask. All else is
 * laid out as for `convolve`, but these two gradients are contiguous. */
void sample_backward(const Layer *layer, const Part *part, const REAL *image, const REAL *offset,
                     const REAL *mask, REAL *columns, REAL *grad_image, REAL *grad_offset,
                     REAL *grad_mask)
{
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t channels = layer->channels / layer->groups;
    const int64_t group_size = (layer->height + 3) * (layer->width + 2) * channels;
    const int64_t stride = part->groups * taps * channels;
    const int64_t positions = layer->output_height * layer->output_width;
    Samples samples;
    REAL dots[4][WIDTH];
    for (int64_t group = 0; group < part->groups; group++)
        for (int64_t row = 0; row < part->rows; row++)
            for (int64_t tap = 0; tap < taps; tap++) {
                const int64_t the_group = part->first_group + group;
                const int64_t from = the_group * group_size, map = the_group * taps + tap;
                const int64_t at = (part->row + row) * layer->output_width + part->column;
                REAL *to = columns + row * part->columns * stride + (group * taps + tap) * channels;
                locate(layer, part, part->row + row, the_group, tap, offset, mask, &samples);
#define CALL(N)                                                                              \
    blend_backward(layer, part->columns, &samples, image + from, grad_image + from, to, stride, \
                   dots, N)
                FOR_CHANNELS(channels, CALL)
#undef CALL
                REAL by_mask[WIDTH], by_y[WIDTH], by_x[WIDTH];
                for (int64_t p = 0; p < part->columns; p++) {
                    const REAL y = samples.down[p], x = samples.across[p];
                    const REAL above = (1 - x) * dots[0][p] + x * dots[1][p];
                    const REAL below = (1 - x) * dots[2][p] + x * dots[3][p];
                    const REAL left = (1 - y) * dots[0][p] + y * dots[2][p];
                    const REAL right = (1 - y) * dots[1][p] + y * dots[3][p];
                    by_mask[p] = (1 - y) * above + y * below;
                    by_y[p] = samples.mask[p] * (below - above);
                    by_x[p] = samples.mask[p] * (right - left);
                }
                const int64_t size = part->columns * sizeof(REAL);
                memcpy(grad_mask + map * positions + at, by_mask, size);
                memcpy(grad_offset + 2 * map * positions + at, by_y, size);
                memcpy(grad_offset + (2 * map + 1) * positions + at, by_x, size);
            }
}
