/* Deformable convolution: what is not a matrix product, for some output positions of one image.
 *
 * A column holds, for one output position, the samples of all taps: (taps, channels). The caller
 * multiplies columns by the weight, a block of positions at a time, so that they stay in the cache.
 *
 * Images are (groups, height + 3, width + 2, channels of a group): a sample reads two runs of
 * memory, and few cache lines are touched that it does not need. The border is zero, two rows above
 * and one pixel elsewhere, so that no pixel needs a check whether it exists.
 *
 * REAL is float or double, BLOCK the largest number of positions in a call: both given to the
 * compiler. Sums over channels may be taken in any order (omp simd); all else is plain IEEE.
 */
#include <stdint.h>
#include <tgmath.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int64_t height, width, channels, groups; /* of the image; deformable groups */
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    int64_t output_width, positions;
} Layer;

/* Some output positions, and some deformable groups. */
typedef struct {
    int64_t first, count;
    int64_t first_group, groups;
} Part;

/* Where the kernel's first tap lies without offset, for each position of a block. */
typedef struct {
    REAL y[BLOCK], x[BLOCK];
} Base;

/* Where one tap of one group samples. */
typedef struct {
    int32_t pixel[BLOCK]; /* the one above and left of it */
    REAL fraction_y[BLOCK], fraction_x[BLOCK];
    REAL weight[4][BLOCK]; /* of the pixels above left, above right, below left, below right */
} Samples;

static void locate_base(const Layer *layer, const Part *part, Base *base)
{
    int64_t row = part->first / layer->output_width, column = part->first % layer->output_width;
    for (int64_t p = 0; p < part->count; p++) {
        base->y[p] = row * layer->stride[0] - layer->padding[0];
        base->x[p] = column * layer->stride[1] - layer->padding[1];
        if (++column == layer->output_width) {
            column = 0;
            row++;
        }
    }
}

static void locate(const Layer *layer, int64_t count, int64_t tap, const Base *base,
                   const REAL *offset_y, const REAL *offset_x, Samples *samples)
{
    const REAL tap_y = tap / layer->kernel[1] * layer->dilation[0];
    const REAL tap_x = tap % layer->kernel[1] * layer->dilation[1];
    const REAL height = layer->height, width = layer->width;
    const int32_t row_length = layer->width + 2;
#pragma omp simd
    for (int64_t p = 0; p < count; p++) {
        REAL y = base->y[p] + tap_y + offset_y[p], x = base->x[p] + tap_x + offset_x[p];
        const int inside = (y > -1) & (y < height) & (x > -1) & (x < width);
        /* Elsewhere, and where it is not a number, in the border's corner: value and slopes 0. */
        y = inside ? y : -2;
        x = inside ? x : -1;
        const REAL top = floor(y), left = floor(x);
        const REAL fraction_y = y - top, fraction_x = x - left;
        samples->pixel[p] = ((int32_t)top + 2) * row_length + (int32_t)left + 1;
        samples->fraction_y[p] = fraction_y;
        samples->fraction_x[p] = fraction_x;
        samples->weight[0][p] = (1 - fraction_y) * (1 - fraction_x);
        samples->weight[1][p] = (1 - fraction_y) * fraction_x;
        samples->weight[2][p] = fraction_y * (1 - fraction_x);
        samples->weight[3][p] = fraction_y * fraction_x;
    }
}

/* Fill in one tap of one group of columns that are `stride` apart. */
INLINE void blend(const Layer *layer, int64_t count, const Samples *samples, const REAL *mask,
                  const REAL *image, REAL *columns, int64_t stride, const int64_t channels)
{
    const int64_t row_length = (layer->width + 2) * channels;
    for (int64_t p = 0; p < count; p++) {
        const REAL *above = image + samples->pixel[p] * channels, *below = above + row_length;
        const REAL weight[4] = {samples->weight[0][p] * mask[p], samples->weight[1][p] * mask[p],
                                samples->weight[2][p] * mask[p], samples->weight[3][p] * mask[p]};
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
                           const REAL *mask, const REAL *image, REAL *grad_image, REAL *columns,
                           int64_t stride, REAL dots[4][BLOCK], const int64_t channels)
{
    const int64_t row_length = (layer->width + 2) * channels;
    for (int64_t p = 0; p < count; p++) {
        const int64_t start = samples->pixel[p] * channels;
        const REAL *above = image + start, *below = above + row_length;
        REAL *grad_above = grad_image + start, *grad_below = grad_above + row_length;
        const REAL weight[4] = {samples->weight[0][p] * mask[p], samples->weight[1][p] * mask[p],
                                samples->weight[2][p] * mask[p], samples->weight[3][p] * mask[p]};
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

/* Copy pixels `first` to `beyond` of an image of any layout into the layout described above. */
void arrange(const Layer *layer, int64_t first, int64_t beyond, const REAL *image,
             int64_t pixel_stride, int64_t channel_stride, REAL *arranged)
{
    const int64_t channels = layer->channels / layer->groups;
    const int64_t group_size = (layer->height + 3) * (layer->width + 2);
    for (int64_t p = first; p < beyond; p++) {
        const int64_t at = (p / layer->width + 2) * (layer->width + 2) + p % layer->width + 1;
        for (int64_t group = 0; group < layer->groups; group++)
            for (int64_t c = 0; c < channels; c++)
                arranged[(group * group_size + at) * channels + c] =
                    image[p * pixel_stride + (group * channels + c) * channel_stride];
    }
}

/* Fill columns (count, taps, channels of the part's groups).
 *
 * image as described above, offset (groups, taps, 2, positions), mask (groups, taps, positions):
 * all of the image, whatever the part. */
void sample(const Layer *layer, const Part *part, const REAL *image, const REAL *offset,
            const REAL *mask, REAL *columns)
{
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t channels = layer->channels / layer->groups, all = part->groups * channels;
    const int64_t group_size = (layer->height + 3) * (layer->width + 2) * channels;
    Base base;
    Samples samples;
    locate_base(layer, part, &base);
    for (int64_t group = 0; group < part->groups; group++)
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t map = (part->first_group + group) * taps + tap;
            const int64_t at = map * layer->positions + part->first;
            const int64_t at_y = at + map * layer->positions, at_x = at_y + layer->positions;
            const REAL *from = image + (part->first_group + group) * group_size;
            REAL *to = columns + tap * all + group * channels;
            locate(layer, part->count, tap, &base, offset + at_y, offset + at_x, &samples);
#define CALL(N) blend(layer, part->count, &samples, mask + at, from, to, taps * all, N)
            FOR_CHANNELS(channels, CALL)
#undef CALL
        }
}

/* Turn columns that hold their own gradient into what `sample` fills in, add to the gradient of the
 * image, and write those of offset and mask, all laid out as there. */
void sample_backward(const Layer *layer, const Part *part, const REAL *image, const REAL *offset,
                     const REAL *mask, REAL *columns, REAL *grad_image, REAL *grad_offset,
                     REAL *grad_mask)
{
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t channels = layer->channels / layer->groups, all = part->groups * channels;
    const int64_t group_size = (layer->height + 3) * (layer->width + 2) * channels;
    Base base;
    Samples samples;
    REAL dots[4][BLOCK];
    locate_base(layer, part, &base);
    for (int64_t group = 0; group < part->groups; group++)
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t map = (part->first_group + group) * taps + tap;
            const int64_t at = map * layer->positions + part->first;
            const int64_t at_y = at + map * layer->positions, at_x = at_y + layer->positions;
            const int64_t from = (part->first_group + group) * group_size;
            REAL *to = columns + tap * all + group * channels;
            locate(layer, part->count, tap, &base, offset + at_y, offset + at_x, &samples);
#define CALL(N)                                                                          \
    blend_backward(layer, part->count, &samples, mask + at, image + from, grad_image + from, to, \
                   taps * all, dots, N)
            FOR_CHANNELS(channels, CALL)
#undef CALL
            for (int64_t p = 0; p < part->count; p++) {
                const REAL y = samples.fraction_y[p], x = samples.fraction_x[p];
                grad_mask[at + p] =
                    samples.weight[0][p] * dots[0][p] + samples.weight[1][p] * dots[1][p]
                    + samples.weight[2][p] * dots[2][p] + samples.weight[3][p] * dots[3][p];
                grad_offset[at_y + p] = mask[at + p] * ((1 - x) * (dots[2][p] - dots[0][p])
                                                        + x * (dots[3][p] - dots[1][p]));
                grad_offset[at_x + p] = mask[at + p] * ((1 - y) * (dots[1][p] - dots[0][p])
                                                        + y * (dots[3][p] - dots[2][p]));
            }
        }
}
