// A 3x3 convolution of three channels, with zeros beyond the picture. The weights are three columns
// for each tap, and then the bias.
vec3 convolution(sampler2D features, ivec2 place) {
    vec3 sum = weights[27].rgb;
    for (int tap = 0; tap < 9; tap++) {
        ivec2 at = place + ivec2(tap % 3, tap / 3) - 1;
        if (all(greaterThanEqual(at, ivec2(0))) && all(lessThan(at, size))) {
            vec3 value = texelFetch(features, at, 0).rgb;
            sum += mat3(weights[3 * tap].rgb, weights[3 * tap + 1].rgb, weights[3 * tap + 2].rgb) * value;
        }
    }
    return sum;
}
