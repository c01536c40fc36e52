// Features of the estimator; a block adds those that it starts from.
uniform sampler2D features;

void main() {
    ivec2 place = ivec2(gl_FragCoord.xy);
    result.rgb = max(convolution(features, place), 0.0);
#if BLOCK
    result.rgb += texelFetch(features, place, 0).rgb;
#endif
}
