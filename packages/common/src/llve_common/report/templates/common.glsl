// Before every shader. Places are in pixels, the first row of the picture at the top.
precision highp float;
precision highp int;
precision highp sampler2D;

uniform ivec2 size;  // width and height of the picture
layout(std140) uniform Weights { vec4 weights[WEIGHTS]; };
out vec4 result;
