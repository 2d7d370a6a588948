// WebGL2: the float16 planes of a block are a texture array; painted, it is a texture of colours.

import { CHANNELS } from "./blocks.js";
import { ENTRIES, TABLE_ROWS, tablePixels } from "./colours.js";
import { PAINT, SHOW, VERTEX } from "./shaders.js";

function compile(gl, kind, source) {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  return shader;
}

/** A program with the places of its uniforms by name. */
function programOf(gl, fragment) {
  const program = gl.createProgram();
  gl.attachShader(program, compile(gl, gl.VERTEX_SHADER, VERTEX));
  gl.attachShader(program, compile(gl, gl.FRAGMENT_SHADER, fragment));
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(`the shaders do not link: ${gl.getProgramInfoLog(program)}`);
  }
  const at = {};
  for (let k = 0; k < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); k++) {
    const { name } = gl.getActiveUniform(program, k);
    at[name] = gl.getUniformLocation(program, name);
  }
  return { program, at };
}

export class Picture {
  /** @throws {Error} where there is no WebGL2 */
  constructor(canvas, onRestored) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("this browser offers no WebGL2");
    this.#prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.#prepare();
      onRestored();
    });
  }

  /**
   * @param {Array<[string, object]>} blocks  key and block, those to be seen on top last
   * @param {?object} look  see `lookOf`; without one there is only the ground
   */
  draw(blocks, viewport, look) {
    const { gl, canvas } = this;
    const ratio = window.devicePixelRatio;
    const [width, height] = [viewport.width, viewport.height].map((size) => Math.round(size * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const shown = look ? blocks.map(([key, block]) => [key, block, this.#placeOf(block, viewport, ratio)]) : [];
    const inSight = shown.filter(([, , place]) => place !== null);
    this.#paintAll(inSight, look);
    gl.viewport(0, 0, width, height);
    gl.useProgram(this.show.program);
    gl.uniform1f(this.show.at.ratio, ratio);
    this.#show(this.nothing, [0, 0, 1, 1]);
    for (const [key, , place] of inSight) this.#show(this.kept.get(key).painted, place);
  }

  /** Free the textures of blocks that are gone. */
  forgetBut(blocks) {
    for (const [key, { planes, painted }] of this.kept) {
      if (blocks.has(key)) continue;
      this.gl.deleteTexture(planes);
      this.gl.deleteTexture(painted);
      this.kept.delete(key);
    }
  }

  #prepare() {
    const { gl } = this;
    this.kept = new Map(); // textures by the key of the block
    this.paint = programOf(gl, PAINT);
    this.show = programOf(gl, SHOW);
    this.easel = gl.createFramebuffer();
    this.nothing = this.#colours(1);
    this.tables = this.#tables();
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 2);
    gl.bindVertexArray(gl.createVertexArray());
  }

  #tables() {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, ENTRIES, TABLE_ROWS.length, 0, gl.RGBA, gl.UNSIGNED_BYTE, tablePixels());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT); // the phase's table is a circle
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    return texture;
  }

  /** An empty picture; from afar its pixels flow together, from near they are seen as they are. */
  #colours(px) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, px, px);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    return texture;
  }

  #planes(px) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.R16F, px, px, CHANNELS.length + 1); // the last: turns
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return texture;
  }

  /** Left, top, width and height as shares of the stage, on whole device pixels so that neighbours meet. */
  #placeOf(block, viewport, ratio) {
    const side = block.px * 2 ** block.level;
    const [left, top] = viewport.toStage(block.by * side, block.bx * side);
    const [right, bottom] = viewport.toStage((block.by + 1) * side, (block.bx + 1) * side);
    if (right < 0 || bottom < 0 || left > viewport.width || top > viewport.height) return null;
    const [x0, y0, x1, y1] = [left, top, right, bottom].map((edge) => Math.round(edge * ratio));
    const { width, height } = this.canvas;
    return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height];
  }

  #paintAll(blocks, look) {
    const { gl } = this;
    const isOld = ([key, block]) => this.kept.get(key)?.block !== block || this.kept.get(key).look !== look;
    const old = blocks.filter(isOld);
    if (old.length === 0) return;
    this.#take(look);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.easel);
    for (const [key, block] of old) this.#paintOne(key, block, look);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.activeTexture(gl.TEXTURE0);
  }

  #take(look) {
    const { gl, paint: { program, at } } = this;
    gl.useProgram(program);
    gl.uniform4f(at.place, 0, 0, 1, 1);
    gl.uniform1i(at.planes, 0);
    gl.uniform1i(at.tables, 1);
    gl.uniform1i(at.layer, CHANNELS.indexOf(look.layer));
    gl.uniform1i(at.isUnwrapped, look.isUnwrapped);
    gl.uniform1i(at.isCyclic, look.isCyclic);
    gl.uniform1i(at.isComplex, look.isComplex);
    gl.uniform1f(at.row, (TABLE_ROWS.indexOf(look.table) + 0.5) / TABLE_ROWS.length);
    gl.uniform3f(at.range, ...look.range);
    gl.uniform4f(at.circle, ...look.circle);
    gl.uniform1f(at.fullLight, look.fullLight);
    gl.uniform1i(at.isFading, look.isFading);
    gl.uniform2f(at.trusted, ...look.trusted);
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, this.tables);
    gl.activeTexture(gl.TEXTURE0);
  }

  #paintOne(key, block, look) {
    const { gl } = this;
    const kept = this.kept.get(key) ?? { planes: this.#planes(block.px), painted: this.#colours(block.px) };
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, kept.planes);
    if (kept.block !== block) {
      const size = [block.px, block.px, CHANNELS.length];
      gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, 0, ...size, gl.RED, gl.HALF_FLOAT, block.bits);
      if (block.turns) {
        const turns = [block.px, block.px, 1];
        gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, CHANNELS.length, ...turns, gl.RED, gl.HALF_FLOAT, block.turns);
      }
    }
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, kept.painted, 0);
    gl.viewport(0, 0, block.px, block.px);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    this.kept.set(key, { ...kept, block, look });
  }

  #show(painted, place) {
    const { gl, show: { at } } = this;
    gl.bindTexture(gl.TEXTURE_2D, painted);
    gl.uniform4f(at.place, ...place);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}
