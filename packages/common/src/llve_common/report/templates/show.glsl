// The picture as it was on the left of the handle, enhanced on its right.
uniform sampler2D frame, enhanced;
uniform float at, strength;  // at: the handle's place, in pixels

void main() {
    ivec2 place = ivec2(gl_FragCoord.x, size.y - 1 - int(gl_FragCoord.y));
    vec3 before = texelFetch(frame, place, 0).rgb, after = texelFetch(enhanced, place, 0).rgb;
    // Rounded as the command rounds it.
    vec3 levels = roundEven(255.0 * (before + strength * (after - before)));
    result = vec4(gl_FragCoord.x < at ? before : levels / 255.0, 1);
}
