/* Deformable convolution: what is not a matrix product, for some output positions of one image.
 *
 * A column holds, for one output position, the samples of all taps: (groups, taps, channels of a
 * group). The caller multiplies columns by the weight, a block of positions at a time, so that they
 * stay in the cache. A block is a rectangle, so that its samples lie close together as well.
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

#define INLINE static inline __attribute__((always_inline))

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
    REAL fraction_y[WIDTH], fraction_x[WIDTH], mask[WIDTH];
    REAL weight[4][WIDTH]; /* of the pixels above left, above right, below left, below right */
} Samples;

/* Copy what is `stride` apart, and have the processor fetch what is `next` away. */
INLINE void gather(int64_t count, const REAL *from, int64_t stride, int64_t next, REAL *to)
{
    if (stride == 1) {
        for (int64_t p = 0; p < count; p += CACHE_LINE / sizeof(REAL))
            __builtin_prefetch(from + next + p);
        memcpy(to, from, count * sizeof(REAL));
    } else
        for (int64_t p = 0; p < count; p++)
            to[p] = from[p * stride];
}

static void locate(const Layer *layer, const Part *part, int64_t row, int64_t group, int64_t tap,
                   const REAL *offset, const REAL *mask, Samples *samples)
{
    const int64_t count = part->columns, at = row * layer->output_width + part->column;
    const int64_t channel = group * layer->kernel[0] * layer->kernel[1] + tap;
    const int64_t *apart = layer->offset_stride, *mask_apart = layer->mask_stride;
    REAL offset_y[WIDTH] = {0}, offset_x[WIDTH] = {0};
    offset += 2 * channel * apart[0] + at * apart[1];
    mask += channel * mask_apart[0] + at * mask_apart[1];
    gather(count, offset, apart[1], 2 * apart[0], offset_y);
    gather(count, offset + apart[0], apart[1], 2 * apart[0], offset_x);
    gather(count, mask, mask_apart[1], mask_apart[0], samples->mask);

    const REAL height = layer->height, width = layer->width, stride = layer->stride[1];
    const REAL first_y = row * layer->stride[0] - layer->padding[0]
                       + tap / layer->kernel[1] * layer->dilation[0];
    const REAL first_x = part->column * layer->stride[1] - layer->padding[1]
                       + tap % layer->kernel[1] * layer->dilation[1];
    const int32_t row_length = layer->width + 2;
#pragma omp simd
    for (int32_t p = 0; p < WIDTH; p++) { /* A constant: no slow remainder of a vector. */
        REAL y = first_y + offset_y[p], x = first_x + p * stride + offset_x[p];
        const int inside = (y > -1) & (y < height) & (x > -1) & (x < width);
        /* Elsewhere, and where it is not a number, in the border's corner: value and slopes 0. */
        y = inside ? y : -2;
        x = inside ? x : -1;
        const REAL top = floor(y), left = floor(x);
        const REAL fraction_y = y - top, fraction_x = x - left;
        samples->pixel[p] = ((int32_t)top + 2) * row_length + (int32_t)left + 1;
        samples->fraction_y[p] = fraction_y;
        samples->fraction_x[p] = fraction_x;
        samples->weight[0][p] = (1 - fraction_y) * (1 - fraction_x) * samples->mask[p];
        samples->weight[1][p] = (1 - fraction_y) * fraction_x * samples->mask[p];
        samples->weight[2][p] = fraction_y * (1 - fraction_x) * samples->mask[p];
        samples->weight[3][p] = fraction_y * fraction_x * samples->mask[p];
    }
}

/* Fill in one tap of one group of columns that are `stride` apart. */
INLINE void blend(const Layer *layer, int64_t count, const Samples *samples, const REAL *image,
                  REAL *columns, int64_t stride, const int64_t channels)
{
    const int64_t row_length = (layer->width + 2) * channels;
    for (int64_t p = 0; p < count; p++) {
        const REAL *above = image + samples->pixel[p] * channels, *below = above + row_length;
        const REAL weight[4] = {samples->weight[0][p], samples->weight[1][p],
                                samples->weight[2][p], samples->weight[3][p]};
        REAL *column = columns + p * stride;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++)
            column[c] = weight[0] * above[c] + weight[1] * above[channels + c]
                      + weight[2] * below[c] + weight[3] * below[channels + c];
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
        const REAL weight[4] = {samples->weight[0][p], samples->weight[1][p],
                                samples->weight[2][p], samples->weight[3][p]};
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

/* Fill columns (positions, the part's groups, taps, channels of a group).
 *
 * image as described above, offset (groups, taps, 2, positions) and mask (groups, taps, positions)
 * with the layer's strides: all of the image, whatever the part. */
void sample(const Layer *layer, const Part *part, const REAL *image, const REAL *offset,
            const REAL *mask, REAL *columns)
{
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t channels = layer->channels / layer->groups;
    const int64_t group_size = (layer->height + 3) * (layer->width + 2) * channels;
    const int64_t stride = part->groups * taps * channels;
    Samples samples = {0};
    for (int64_t group = 0; group < part->groups; group++)
        for (int64_t row = 0; row < part->rows; row++)
            for (int64_t tap = 0; tap < taps; tap++) {
                const int64_t the_group = part->first_group + group;
                const REAL *from = image + the_group * group_size;
                REAL *to = columns + row * part->columns * stride + (group * taps + tap) * channels;
                locate(layer, part, part->row + row, the_group, tap, offset, mask, &samples);
#define CALL(N) blend(layer, part->columns, &samples, from, to, stride, N)
                FOR_CHANNELS(channels, CALL)
#undef CALL
            }
}

/* Turn columns that hold their own gradient into what `sample` fills in, add to the gradient of the
 * image, and write those of offset and mask: laid out as there, but these two contiguous. */
void sample_backward(const Layer *layer, const Part *part, const REAL *image, const REAL *offset,
                     const REAL *mask, REAL *columns, REAL *grad_image, REAL *grad_offset,
                     REAL *grad_mask)
{
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t channels = layer->channels / layer->groups;
    const int64_t group_size = (layer->height + 3) * (layer->width + 2) * channels;
    const int64_t stride = part->groups * taps * channels;
    const int64_t positions = layer->output_height * layer->output_width;
    Samples samples = {0};
    REAL dots[4][WIDTH] = {0};
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
                for (int64_t p = 0; p < WIDTH; p++) {
                    const REAL y = samples.fraction_y[p], x = samples.fraction_x[p];
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
