// The shaders. A block is painted, pixel for pixel, when it or the look changes; moving and zooming only show it.

export const VERTEX = `#version 300 es
uniform vec4 place;  // of the block on the stage, shares of it: left, top, width, height
out vec2 within;

void main() {
  within = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  vec2 at = place.xy + within * place.zw;
  gl_Position = vec4(2.0 * at.x - 1.0, 1.0 - 2.0 * at.y, 0.0, 1.0);
}`;

/* Planes → colours, premultiplied with their opacity: what is averaged between pixels is light, never an angle. */
export const PAINT = `#version 300 es
precision highp float;
precision highp sampler2DArray;
const int AMPLITUDE = 0, PHASE = 1, COVERAGE = 3, CONFIDENCE = 4, TURNS = 5;
const float TURN = 6.283185307179586;
const float FAINTEST = 0.25, FADED = 0.06;

uniform sampler2DArray planes;
uniform sampler2D tables;
uniform int layer;        // whose value is shown; of the complex object, the amplitude
uniform bool isUnwrapped; // the phase and its turns
uniform bool isCyclic;    // the phase decides the colour
uniform bool isComplex;   // and the amplitude the brightness
uniform float row;        // of the colour table
uniform vec3 range;       // of the value: low, high, gamma
uniform vec4 circle;      // of the phase: low and high from the centre, centre, radians a tour of the table
uniform float fullLight;  // coverage from which on a pixel is opaque
uniform bool isFading;
uniform vec2 trusted;     // confidence: from faded to full
in vec2 within;
out vec4 colour;

float plane(int which) {
  return texelFetch(planes, ivec3(gl_FragCoord.xy, which), 0).r;
}

float value() {
  return isUnwrapped ? plane(PHASE) + TURN * plane(TURNS) : plane(layer);
}

float placeOfValue() {
  float linear = clamp((value() - range.x) / (range.y - range.x), 0.0, 1.0);
  return range.z == 1.0 ? linear : pow(linear, range.z);
}

float placeOfPhase() {
  float relative = plane(PHASE) - circle.z;
  relative -= TURN * floor(relative / TURN + 0.5);
  return (clamp(relative, circle.x, circle.y) - circle.x) / circle.w;
}

vec3 shade() {
  // a closed table has its end next to its beginning, an open one has ends
  float at = isCyclic ? placeOfPhase() + 0.5 / 256.0 : (placeOfValue() * 255.0 + 0.5) / 256.0;
  vec3 hue = texture(tables, vec2(at, row)).rgb;
  return isComplex ? hue * placeOfValue() : hue;
}

void main() {
  float light = plane(COVERAGE);
  if (!(light > 0.0) || (isUnwrapped && isnan(plane(TURNS)))) {
    colour = vec4(0.0);
    return;
  }
  float opacity = light < fullLight ? mix(FAINTEST, 1.0, light / fullLight) : 1.0;
  if (isFading) {
    opacity *= mix(FADED, 1.0, clamp((plane(CONFIDENCE) - trusted.x) / (trusted.y - trusted.x), 0.0, 1.0));
  }
  colour = vec4(shade() * opacity, opacity);
}`;

/* A painted block on its ground; nothing is blended, so that a finer block hides a coarser one. */
export const SHOW = `#version 300 es
precision highp float;
uniform sampler2D painted;
uniform float ratio;  // device pixels a CSS pixel
in vec2 within;
out vec4 colour;

vec3 ground() {
  vec2 cell = mod(gl_FragCoord.xy / ratio, 14.0);
  bool isDot = all(lessThan(abs(cell - 7.75), vec2(0.75)));
  return isDot ? vec3(42.0, 51.0, 58.0) / 255.0 : vec3(20.0, 25.0, 29.0) / 255.0;
}

void main() {
  vec4 shown = texture(painted, within);
  colour = vec4(shown.a < 1.0 ? shown.rgb + (1.0 - shown.a) * ground() : shown.rgb, 1.0);
}`;
