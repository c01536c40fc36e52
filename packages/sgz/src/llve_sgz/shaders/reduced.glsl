// The picture reduced: of a square of SCALE x SCALE pixels the mean of the middle ones, four of an
// even scale and one of an odd one. Beyond the picture lies its reflection, or its last pixel where
// there is too little to reflect.
uniform sampler2D frame;

void main() {
    ivec2 beyond = (SCALE - size % SCALE) % SCALE, last = size - 1;
    bool mirrored = all(lessThan(beyond, size));
    vec3 sum = vec3(0);
    for (int corner = 0; corner < 4; corner++) {
        ivec2 side = ivec2(corner & 1, corner >> 1);
        ivec2 at = SCALE * ivec2(gl_FragCoord.xy) + (SCALE - 1 + side) / 2;
        at = min(at, mirrored ? 2 * last - at : last);
        sum += texelFetch(frame, at, 0).rgb;
    }
    result = vec4(sum / 4.0, 0);
}
