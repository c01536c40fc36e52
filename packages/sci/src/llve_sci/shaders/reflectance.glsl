// The picture divided by its illumination, truncated to 8 bits.
uniform sampler2D features, frame;

void main() {
    ivec2 place = ivec2(gl_FragCoord.xy);
    vec3 image = texelFetch(frame, place, 0).rgb;
    vec3 residual = 1.0 / (1.0 + exp(-convolution(features, place)));
    vec3 reflectance = min(image / clamp(residual + image, 1e-4, 1.0), 1.0);
    result = vec4(floor(255.0 * reflectance) / 255.0, 1);
}
