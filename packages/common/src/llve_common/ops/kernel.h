/* What the kernels of papers share: vectors of float32, and e to a power. */
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

#define INLINE static inline __attribute__((always_inline))
#define SMALLER(one, other) ((one) < (other) ? (one) : (other))
#define LARGER(one, other) ((one) > (other) ? (one) : (other))

/* Of images. */
#define CHANNELS 3

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* In this thread numbers below the smallest normal one count as zero from here on: processors take a
 * hundred times as long for them. */
INLINE void count_small_numbers_as_zero(void)
{
#if defined(__SSE__)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#endif
}

/* e to the -v for -80 <= v <= 80, within five units of the last place. */
INLINE float exponential(float v)
{
    const float magic = 12582912 + 127; /* adding it rounds to a whole number */
    const float shifted = magic - v * 1.44269504f, whole = shifted - magic;
    const float rest = -v * 1.44269504f - whole;
    float sum = rest * 1.32764725e-3f + 9.67554096e-3f;
    sum = sum * rest + 5.55071309e-2f;
    sum = sum * rest + 0.240221202f;
    sum = sum * rest + 0.693146944f;
    sum = sum * rest + 1.00000012f;
    union {
        float number;
        uint32_t bits;
    } power = {shifted}; /* its lowest bits are the whole number's, and the exponent's bias */
    power.bits <<= 23;
    return sum * power.number;
}
