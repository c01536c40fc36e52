// The factor enlarged bilinearly, corners aligned, all steps of x + factor (x^2 - x), and the result
// rounded to 8 bits.
uniform sampler2D factor, frame;

void main() {
    ivec2 place = ivec2(gl_FragCoord.xy), last = textureSize(factor, 0) - 1;
    vec2 at = vec2(place * last) / vec2((last + 1) * SCALE - 1), part = fract(at);
    ivec2 from = ivec2(at), to = min(from + 1, last);
    vec3 above = mix(texelFetch(factor, from, 0).rgb,
                     texelFetch(factor, ivec2(to.x, from.y), 0).rgb, part.x);
    vec3 below = mix(texelFetch(factor, ivec2(from.x, to.y), 0).rgb,
                     texelFetch(factor, to, 0).rgb, part.x);
    vec3 value = texelFetch(frame, place, 0).rgb, strength = mix(above, below, part.y);
    for (int step = 0; step < STEPS; step++)
        value += strength * (value * value - value);
    result = vec4(floor(255.0 * clamp(value, 0.0, 1.0) + 0.5) / 255.0, 1);
}
