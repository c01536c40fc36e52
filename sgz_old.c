/* SGZ's eight brightening steps fused: rows of 8 or 16 bits in, rows of the same depth out.
 *
 * The factor comes enlarged along the rows and is enlarged down the columns here, corners aligned.
 * All is done value by value, so that nothing but the two frames leaves the processor's registers.
 *
 * STEPS is given to the compiler.
 */
#include <stdint.h>

#define SMALLER(one, other) ((one) < (other) ? (one) : (other))

typedef struct {
    int64_t values, bytes;       /* in a row of the frame, and of a value */
    int64_t factor_rows;
    const float *factor;         /* (factor_rows, values) */
    double spacing;              /* of the frame's rows, in rows of the factor */
} Frame;

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

/* Rows `top` to `bottom` - 1; whether all of their values are numbers. */
int64_t enhance(const Frame *frame, const char *pixels, char *result, int64_t top, int64_t bottom)
{
    const int64_t values = frame->values, last = frame->factor_rows - 1;
    int numbers = 1;
    for (int64_t row = top; row < bottom; row++) {
        const int64_t at = row * values * frame->bytes, above = SMALLER(row * frame->spacing, last);
        const float down = row * frame->spacing - above;
        const float *upper = frame->factor + above * values;
        const float *lower = frame->factor + SMALLER(above + 1, last) * values;
        if (frame->bytes == 1)
            numbers &= enhance_row_uint8_t((const uint8_t *)(pixels + at), (uint8_t *)(result + at),
                                           values, upper, lower, down);
        else
            numbers &= enhance_row_uint16_t((const uint16_t *)(pixels + at),
                                            (uint16_t *)(result + at), values, upper, lower, down);
    }
    return numbers;
}
