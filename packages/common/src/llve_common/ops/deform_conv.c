/* Deformable convolution of one image, a block of output positions at a time.
 *
 * A column holds, for one output position, the samples of some deformable groups: (groups, taps,
 * channels of a group). Forward, each group's columns are multiplied by the weight as soon as a row
 * of them is made, while they are near. Backward, the caller multiplies, a block at a time.
 *
 * Images are (groups, height + 3, width + 2, channels of a group): a sample reads two runs of
 * memory, and few cache lines are touched that it does not need. The border is zero, two rows above
 * and one pixel elsewhere, so that no pixel needs a check whether it exists.
 *
 * REAL is float or double, WIDTH the largest width of a block: both given to the compiler. Sums
 * over channels may be taken in any order (omp simd); all else is plain IEEE.
 */
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

#define CACHE_LINE 64

/* A sample is seldom further than this many rows from where the plain convolution's would be. */
#define REACH 10

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

/* Likewise: without OpenMP, its own threads call. */
#ifdef _OPENMP
const int64_t has_threads = 1;
#else
const int64_t has_threads = 0;
#endif

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
} Samples;

/* For the caller, which provides them. */
const int64_t samples_size = sizeof(Samples);

INLINE int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

INLINE int64_t larger(int64_t one, int64_t other) { return one > other ? one : other; }

INLINE void prefetch(const REAL *from, int64_t count)
{
    for (int64_t at = 0; at < count; at += CACHE_LINE / sizeof(REAL))
        __builtin_prefetch(from + at, 0, 2);
}

/* What is `stride` apart side by side: in place, or copied. */
INLINE const REAL *gather(int64_t count, const REAL *from, int64_t stride, REAL *copy)
{
    if (stride == 1)
        return from;
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
    REAL copies[3][WIDTH];
    offset += 2 * channel * apart[0] + at * apart[1];
    mask += channel * mask_apart[0] + at * mask_apart[1];
    const REAL *offset_y = gather(count, offset, apart[1], copies[0]);
    const REAL *offset_x = gather(count, offset + apart[0], apart[1], copies[1]);
    const REAL *masks = gather(count, mask, mask_apart[1], copies[2]);

    const REAL height = layer->height, width = layer->width, stride = layer->stride[1];
    const REAL first_y = row * layer->stride[0] - layer->padding[0]
                       + tap / layer->kernel[1] * layer->dilation[0];
    const REAL first_x = part->column * layer->stride[1] - layer->padding[1]
                       + tap % layer->kernel[1] * layer->dilation[1];
    const int32_t row_length = layer->width + 2;
#pragma omp simd simdlen(LANES)
    for (int32_t p = 0; p < count; p++) {
        REAL y = first_y + offset_y[p], x = first_x + p * stride + offset_x[p];
        const int inside = (y > -1) & (y < height) & (x > -1) & (x < width);
        /* Elsewhere, and where it is not a number, in the border's corner: value and slopes 0. */
        y = inside ? y : -2;
        x = inside ? x : -1;
        const REAL above = floor(y), before = floor(x);
        samples->pixel[p] = ((int32_t)above + 2) * row_length + (int32_t)before + 1;
        samples->down[p] = y - above;
        samples->across[p] = x - before;
        samples->mask[p] = masks[p];
    }
}

/* Fill in columns of one group, for positions that are side by side. */
INLINE void blend(const Layer *layer, int64_t count, int64_t taps, const Samples *samples,
                  const REAL *image, REAL *columns, const int64_t channels)
{
    const int64_t row_length = (layer->width + 2) * channels;
    for (int64_t p = 0; p < count; p++)
        /* Few instructions each, and all wait for memory: several at a time. */
#pragma GCC unroll 5
        for (int64_t tap = 0; tap < taps; tap++, columns += channels) {
            const Samples *from = samples + tap;
            const REAL *above = image + from->pixel[p] * channels, *below = above + row_length;
            const REAL down = from->down[p], across = from->across[p], mask = from->mask[p];
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const REAL left = above[c] + down * (below[c] - above[c]);
                const REAL right = above[channels + c]
                                 + down * (below[channels + c] - above[channels + c]);
                columns[c] = mask * (left + across * (right - left));
            }
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
        const REAL down = samples->down[p], mask = samples->mask[p];
        const REAL right = samples->across[p] * mask, left = mask - right;
        const REAL weight[4] = {(1 - down) * left, (1 - down) * right, down * left, down * right};
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

INLINE void arrange_row(const Layer *layer, int64_t first, int64_t beyond, int64_t row,
                        const REAL *image, int64_t pixel_stride, int64_t channel_stride,
                        REAL *arranged, const int64_t channels)
{
    const int64_t row_length = layer->width + 2, group_size = (layer->height + 3) * row_length;
    image += row * layer->width * pixel_stride;
    arranged += ((row + 2) * row_length + 1) * channels;
    for (int64_t x = 0; x < layer->width; x++)
        for (int64_t group = first; group < beyond; group++)
            for (int64_t c = 0; c < channels; c++)
                arranged[(group * group_size + x) * channels + c] =
                    image[x * pixel_stride + (group * channels + c) * channel_stride];
}

/* Zero the border next to a row, with two more rows above the first and one below the last. */
static void arrange_border(const Layer *layer, int64_t first, int64_t beyond, int64_t row,
                           REAL *arranged)
{
    const int64_t pixel = layer->channels / layer->groups * (int64_t)sizeof(REAL);
    const int64_t row_size = (layer->width + 2) * pixel, last = layer->height - 1;
    for (int64_t group = first; group < beyond; group++) {
        char *to = (char *)arranged + (group * (layer->height + 3) + row + 2) * row_size;
        if (row == 0)
            memset(to - 2 * row_size, 0, 2 * row_size);
        memset(to, 0, pixel);
        memset(to + row_size - pixel, 0, pixel + (row == last ? row_size : 0));
    }
}

/* Copy groups `first` to `beyond` of an image of any layout into the layout described above. */
void arrange(const Layer *layer, int64_t first, int64_t beyond, int64_t threads, const REAL *image,
             int64_t pixel_stride, int64_t channel_stride, REAL *arranged)
{
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < layer->height; row++) {
        arrange_border(layer, first, beyond, row, arranged);
#define CALL(N) \
    arrange_row(layer, first, beyond, row, image, pixel_stride, channel_stride, arranged, N)
        FOR_CHANNELS(layer->channels / layer->groups, CALL)
#undef CALL
    }
}

/* What to fetch for the positions of a tile while it is multiplied, a little with each tap: the
 * tap's maps of offset or mask, and a row of the image, of which there are `rows`. */
typedef struct {
    const REAL *offset, *mask, *image;
    int64_t offset_stride, mask_stride, row_length, rows, row_part;
    int is_odd; /* the tile */
} Soon;

/* For the first tile of a row of a part: the next row's maps, and this row's share of those rows of
 * the image that the next group samples. */
static Soon needed_soon(const Layer *layer, const Part *part, int64_t group, int64_t row,
                        const REAL *image, const REAL *offset, const REAL *mask)
{
    const int64_t channels = layer->channels / layer->groups, image_rows = layer->height + 3;
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t following = smaller(group + 1, layer->groups - 1);
    const int last_row = row + 1 == part->rows;
    const int64_t next_row = part->row + (last_row ? 0 : row + 1);
    const int64_t map = (last_row ? following : group) * taps;
    const int64_t at = next_row * layer->output_width + part->column;

    const int64_t reached = (part->rows - 1) * layer->stride[0]
                          + (layer->kernel[0] - 1) * layer->dilation[0] + 2 * REACH;
    const int64_t share = reached / part->rows + 1;
    const int64_t top = part->row * layer->stride[0] - layer->padding[0] + 2 - REACH + row * share;
    const int64_t first = larger(0, smaller(top, image_rows - 1));
    Soon soon = {.offset_stride = layer->offset_stride[0], .mask_stride = layer->mask_stride[0]};
    soon.offset = offset + 2 * map * layer->offset_stride[0] + at * layer->offset_stride[1];
    soon.mask = mask + map * layer->mask_stride[0] + at * layer->mask_stride[1];
    soon.row_length = (layer->width + 2) * channels;
    soon.rows = smaller(share, image_rows - first);
    soon.row_part = TILE_POSITIONS * layer->stride[1] * channels;
    soon.image = image + (following * image_rows + first) * soon.row_length
               + part->column * layer->stride[1] * channels;
    return soon;
}

/* The same for the tile to the right. */
INLINE void move_right(const Layer *layer, Soon *soon)
{
    soon->offset += TILE_POSITIONS * layer->offset_stride[1];
    soon->mask += TILE_POSITIONS * layer->mask_stride[1];
    soon->image += soon->row_part;
    soon->is_odd ^= 1;
}

INLINE void fetch(const Soon *soon, int64_t tap)
{
    /* A cache line of a map is enough for two tiles. */
    const int64_t count = 2 * TILE_POSITIONS;
    if (soon->is_odd) {
        prefetch(soon->mask + tap * soon->mask_stride, count);
    } else {
        prefetch(soon->offset + 2 * tap * soon->offset_stride, count);
        prefetch(soon->offset + (2 * tap + 1) * soon->offset_stride, count);
    }
    if (tap < soon->rows)
        prefetch(soon->image + tap * soon->row_length, soon->row_part);
}

/* A tile of sums: a start, positions `apart`, plus columns (TILE_POSITIONS, taps, channels) x panel
 * (taps, channels, TILE_OUTPUTS). */
static void multiply(int64_t taps, int64_t channels, const REAL *columns, const REAL *panel,
                     const REAL *start, int64_t apart, const Soon *soon, REAL *sums)
{
    const int64_t depth = taps * channels;
    Vector tile[TILE_POSITIONS][TILE_VECTORS];
    for (int p = 0; p < TILE_POSITIONS; p++)
        for (int v = 0; v < TILE_VECTORS; v++)
            tile[p][v] = *(const Vector *)(start + p * apart + v * LANES);
    /* Loops that may not run at all make GCC keep the tile in memory. */
    int64_t tap = 0;
    do {
        fetch(soon, tap);
        int64_t k = tap * channels;
        do {
            Vector row[TILE_VECTORS];
            for (int v = 0; v < TILE_VECTORS; v++)
                row[v] = *(const Vector *)(panel + k * TILE_OUTPUTS + v * LANES);
            for (int p = 0; p < TILE_POSITIONS; p++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    tile[p][v] += columns[p * depth + k] * row[v];
        } while (++k < (tap + 1) * channels);
    } while (++tap < taps);
    for (int p = 0; p < TILE_POSITIONS; p++)
        for (int v = 0; v < TILE_VECTORS; v++)
            *(Vector *)(sums + p * TILE_OUTPUTS + v * LANES) = tile[p][v];
}

/* Multiply the columns of one group for a row of a part, and with the last group write output. */
static void multiply_row(const Layer *layer, const Part *part, int64_t group, const REAL *columns,
                         const REAL *panels, const REAL *bias, int64_t outputs, const Soon *first,
                         REAL *sums, REAL *output)
{
    const int64_t channels = layer->channels / layer->groups;
    const int64_t taps = layer->kernel[0] * layer->kernel[1], depth = taps * channels;
    for (int64_t from = 0; from < outputs; from += TILE_OUTPUTS) {
        const int64_t tile = from / TILE_OUTPUTS, size = smaller(outputs - from, TILE_OUTPUTS);
        const REAL *panel = panels + (tile * layer->groups + group) * depth * TILE_OUTPUTS;
        Soon soon = *first;
        for (int64_t p = 0; p < part->columns; p += TILE_POSITIONS) {
            const REAL *start = group ? sums : bias + from;
            REAL *to = output + p * outputs + from;
            const int64_t existing = smaller(part->columns - p, TILE_POSITIONS);
            const int64_t written = group < layer->groups - 1 ? 0 : existing;
            for (int64_t at = 0; at < written; at++)
                prefetch(to + at * outputs, size);
            multiply(taps, channels, columns + p * depth, panel, start, group ? TILE_OUTPUTS : 0,
                     &soon, sums);
            for (int64_t at = 0; at < written; at++)
                memcpy(to + at * outputs, sums + at * TILE_OUTPUTS, size * sizeof(REAL));
            move_right(layer, &soon);
            sums += TILE_POSITIONS * TILE_OUTPUTS;
        }
    }
}

static void convolve_part(const Layer *layer, const Part *part, const REAL *image,
                          const REAL *offset, const REAL *mask, const REAL *panels,
                          const REAL *bias, int64_t outputs, REAL *output, Samples *samples,
                          REAL *columns, REAL *sums)
{
    const int64_t channels = layer->channels / layer->groups;
    const int64_t taps = layer->kernel[0] * layer->kernel[1];
    const int64_t group_size = (layer->height + 3) * (layer->width + 2) * channels;
    const int64_t tiles = (part->columns + TILE_POSITIONS - 1) / TILE_POSITIONS
                        * ((outputs + TILE_OUTPUTS - 1) / TILE_OUTPUTS);
    for (int64_t group = 0; group < layer->groups; group++)
        for (int64_t row = 0; row < part->rows; row++) {
            const int64_t at = (part->row + row) * layer->output_width + part->column;
            for (int64_t tap = 0; tap < taps; tap++)
                locate(layer, part, part->row + row, group, tap, offset, mask, samples + tap);
#define CALL(N) \
    blend(layer, part->columns, taps, samples, image + group * group_size, columns, N)
            FOR_CHANNELS(channels, CALL)
#undef CALL
            const Soon soon = needed_soon(layer, part, group, row, image, offset, mask);
            multiply_row(layer, part, group, columns, panels, bias, outputs, &soon,
                         sums + row * tiles * TILE_POSITIONS * TILE_OUTPUTS,
                         output + at * outputs);
        }
}

/* Fill in output (positions, outputs), a part at a time, as long as there are parts that no thread
 * has begun: `begun` counts the threads, and those parts.
 *
 * image as described above, offset (groups, taps, 2, positions) and mask (groups, taps, positions)
 * with the layer's strides. Parts have all groups. Outputs come in tiles: panels are (tiles,
 * groups, taps, channels of a group, TILE_OUTPUTS) of the weight, bias (tiles, TILE_OUTPUTS). Each
 * thread has its own memory: samples (taps) and, for the positions of a row in whole tiles, columns
 * of one group and sums (rows, tiles, positions, TILE_OUTPUTS). */
void convolve(int64_t threads, const Layer *layer, const Part *parts, int64_t count,
              int64_t begun[2], const REAL *image, const REAL *offset, const REAL *mask,
              const REAL *panels, const REAL *bias, int64_t outputs, REAL *output,
              Samples *all_samples, REAL *all_columns, int64_t columns_size, REAL *all_sums,
              int64_t sums_size)
{
#pragma omp parallel num_threads(threads)
    {
        const int64_t thread = __atomic_fetch_add(begun, 1, __ATOMIC_RELAXED);
        Samples *samples = all_samples + thread * layer->kernel[0] * layer->kernel[1];
        REAL *columns = all_columns + thread * columns_size, *sums = all_sums + thread * sums_size;
        /* Whole tiles are multiplied, and what memory happens to hold can be slow. */
        memset(columns, 0, columns_size * sizeof(REAL));
        int64_t at;
        while ((at = __atomic_fetch_add(begun + 1, 1, __ATOMIC_RELAXED)) < count)
            convolve_part(layer, parts + at, image, offset, mask, panels, bias, outputs, output,
                          samples, columns, sums);
    }
}

/* Turn columns (positions, the part's groups, taps, channels of a group) that hold their own
 * gradient into samples, add to the gradient of the image, and write those of offset and mask. All
 * else is laid out as for `convolve`, but these two gradients are contiguous. */
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
