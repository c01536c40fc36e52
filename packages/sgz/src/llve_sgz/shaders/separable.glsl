// A depthwise 3x3 convolution, with zeros beyond the picture, and a pointwise one, of the groups of
// four channels of one texture and then another. The weights are, for each group that goes in, nine
// taps and the bias; for each that comes out, four columns for each that goes in, and the bias.
uniform sampler2D one, other;

vec4 depthwise(int group, ivec2 place, int height) {
    vec4 sum = weights[10 * group + 9];
    for (int tap = 0; tap < 9; tap++) {
        ivec2 at = place + ivec2(tap % 3, tap / 3) - 1;
        if (any(lessThan(at, ivec2(0))) || at.x >= textureSize(one, 0).x || at.y >= height)
            continue;
        vec4 value = group < ONE ? texelFetch(one, at + ivec2(0, group * height), 0)
                                 : texelFetch(other, at + ivec2(0, (group - ONE) * height), 0);
        sum += weights[10 * group + tap] * value;
    }
    return sum;
}

void main() {
    const int groups = ONE + OTHER, columns = 4 * groups + 1;
    int height = textureSize(one, 0).y / ONE, row = int(gl_FragCoord.y), group = row / height;
    int first = 10 * groups + columns * group;
    vec4 sum = weights[first + columns - 1];
    for (int from = 0; from < groups; from++) {
        vec4 value = depthwise(from, ivec2(gl_FragCoord.x, row % height), height);
        int at = first + 4 * from;
        sum += mat4(weights[at], weights[at + 1], weights[at + 2], weights[at + 3]) * value;
    }
#if LAST
    result = tanh(sum);
#else
    result = max(sum, 0.0);
#endif
}
