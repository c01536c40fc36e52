"use strict";
// A paper's network drawn by WebGL2, and a page around it. The network is a list of passes; each is
// a shader that draws one texture from others, as llve_common.paper.contract.Pass describes.

const find = (id) => document.getElementById(id);
const read = (id) => JSON.parse(find(id).textContent);
const SQUARE = "#version 300 es\nvoid main() { gl_Position = vec4(ivec2(gl_VertexID & 1, gl_VertexID >> 1) * 4 - 1, 0, 1); }";

class Network {
  constructor(gl, passes, glsl) {
    this.gl = gl;
    this.common = glsl.common;
    this.textures = {};
    this.target = gl.createFramebuffer();
    this.fence = null;
    this.passes = passes.map((pass) => ({ ...pass, ...this.compile(pass.shader, pass.defines, pass.weights) }));
    this.shown = this.compile(glsl.show, {}, "");
  }

  compile(shader, defines, weights) {
    const { gl } = this;
    const values = new Float32Array(Uint8Array.from(atob(weights), (c) => c.charCodeAt(0)).buffer);
    const all = { ...defines, WEIGHTS: Math.max(1, values.length / 4) };
    const head = Object.entries(all).map(([name, value]) => `#define ${name} ${value}\n`).join("");
    const program = gl.createProgram();
    for (const [kind, text] of [
      [gl.VERTEX_SHADER, SQUARE],
      [gl.FRAGMENT_SHADER, "#version 300 es\n" + head + this.common + shader],
    ]) {
      const part = gl.createShader(kind);
      gl.shaderSource(part, text);
      gl.compileShader(part);
      if (!gl.getShaderParameter(part, gl.COMPILE_STATUS)) throw Error(gl.getShaderInfoLog(part));
      gl.attachShader(program, part);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw Error(gl.getProgramInfoLog(program));
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.UNIFORM_BUFFER, buffer);
    gl.bufferData(gl.UNIFORM_BUFFER, values.length ? values : new Float32Array(4), gl.STATIC_DRAW);
    return { program, buffer };
  }

  // A texture of that name and size, made anew where the size is another.
  texture(name, width, height, format) {
    const { gl } = this;
    const known = this.textures[name];
    if (known && known.width === width && known.height === height) return known;
    if (known) gl.deleteTexture(known.texture);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, format, width, height);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return (this.textures[name] = { texture, width, height });
  }

  // Take a picture or the present frame of a video, and enhance it.
  enhance(source, width, height) {
    const { gl } = this;
    this.size = [width, height];
    this.texture("frame", width, height, gl.RGBA8);
    gl.bindTexture(gl.TEXTURE_2D, this.textures.frame.texture);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, gl.RGBA, gl.UNSIGNED_BYTE, source);
    for (const pass of this.passes) {
      const [across, down] = this.size.map((side) => Math.ceil(side / pass.scale));
      const format = pass.output === "enhanced" ? gl.RGBA8 : gl.RGBA16F;
      const drawn = this.texture(pass.output, across, down * pass.groups, format);
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, drawn.texture, 0);
      this.draw(pass, pass.inputs, drawn.width, drawn.height);
    }
  }

  show(at, strength) {
    const { gl, shown } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.useProgram(shown.program);
    gl.uniform1f(gl.getUniformLocation(shown.program, "at"), at * this.size[0]);
    gl.uniform1f(gl.getUniformLocation(shown.program, "strength"), strength);
    this.draw(shown, { frame: "frame", enhanced: "enhanced" }, ...this.size);
    gl.deleteSync(this.fence);
    this.fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
  }

  // Whether the graphics card still draws what was shown last.
  busy() {
    const { gl, fence } = this;
    return fence && !gl.isContextLost() && gl.getSyncParameter(fence, gl.SYNC_STATUS) !== gl.SIGNALED;
  }

  draw({ program, buffer }, inputs, width, height) {
    const { gl } = this;
    gl.useProgram(program);
    gl.viewport(0, 0, width, height);
    gl.uniform2i(gl.getUniformLocation(program, "size"), ...this.size);
    gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, buffer);
    Object.entries(inputs).forEach(([name, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[texture].texture);
      gl.uniform1i(gl.getUniformLocation(program, name), unit);
    });
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

const canvas = document.querySelector("canvas");
const view = document.querySelector(".view");
const handle = document.querySelector(".at");
const video = document.createElement("video");
Object.assign(video, { muted: true, loop: true, playsInline: true });
let network = null;
let name = "picture";
let recorder = null;
let awaited = 0;
let waiting = 0;
let counted = null;
const tell = (text) => (find("told").textContent = text);

function start() {
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
  // Either lets a shader draw float16, which phones can do too, and twice as fast as float32.
  if (!["EXT_color_buffer_float", "EXT_color_buffer_half_float"].some((name) => gl?.getExtension(name))) {
    tell("This browser does not offer WebGL2 with float16 textures, which the network needs.");
    find("file").disabled = find("camera").disabled = true;
    return;
  }
  network = new Network(gl, read("passes"), read("glsl"));
  canvas.addEventListener("webglcontextlost", () => tell("The graphics card gave up: the picture may be too large for it. Load this page again."));
}

function show() {
  const at = recorder ? 0 : handle.value / 100;
  view.style.setProperty("--at", `${100 * at}%`);
  find("shown").value = Number(find("strength").value).toFixed(2);
  network.show(at, Number(find("strength").value));
}

// Enhance a picture, or a video's present frame, and show it.
function enhance(source, width, height) {
  const { gl } = network;
  const most = Math.min(gl.getParameter(gl.MAX_TEXTURE_SIZE), ...gl.getParameter(gl.MAX_VIEWPORT_DIMS));
  if (Math.max(width, height) > most) {
    tell(`${name}: ${width}x${height} pixels are too many for this graphics card, whose limit is ${most}.`);
    return false;
  }
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const facts = { width, height, ratio: window.devicePixelRatio };
  Object.entries(facts).forEach(([name, value]) => view.style.setProperty(`--${name}`, value));
  network.enhance(source, width, height);
  find("work").hidden = false;
  find("source").classList.remove("empty");
  show();
  return true;
}

async function open(file) {
  stop();
  name = file.name;
  tell(`opening ${name}`);
  if (file.type.startsWith("video/")) {
    video.src = URL.createObjectURL(file);
    return play();
  }
  try {
    // As the command: upright, in sRGB, colour without regard to transparency.
    const picture = await createImageBitmap(file, { premultiplyAlpha: "none", imageOrientation: "from-image" });
    if (enhance(picture, picture.width, picture.height)) tell(`${name}: ${picture.width}x${picture.height}`);
    picture.close();
  } catch (error) {
    tell(`${name} cannot be read here (${error.message}); the command reads more kinds of files.`);
  }
}

async function useCamera() {
  stop();
  name = "camera";
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, facingMode: "environment" } });
    await play();
  } catch (error) {
    tell(`The camera cannot be used: ${error.message}`);
  }
}

async function play() {
  try {
    await video.play();
  } catch (error) {
    return tell(`${name} cannot be played here: ${error.message}`);
  }
  find("moving").hidden = false;
  find("time").disabled = !Number.isFinite(video.duration);
  if (follow()) tell(`${name}: ${video.videoWidth}x${video.videoHeight}`);
}

// The present frame, and every one that the video shows from now on, also where it is paused.
function follow(now, facts) {
  // Frames that a slow card has no time for are left out: queued, they would make the page stand still.
  if (network.busy()) {
    waiting = setTimeout(follow, 4, now, facts);
    return true;
  }
  if (facts) count(now, facts.presentedFrames);
  if (!enhance(video, video.videoWidth, video.videoHeight)) return false;
  if (Number.isFinite(video.duration)) find("time").value = video.currentTime / video.duration;
  awaited = video.requestVideoFrameCallback(follow);
  return true;
}

// Tell once a second how many of the source's frames were enhanced.
function count(now, frames) {
  counted ??= { now, frames, enhanced: 0 };
  const seconds = (now - counted.now) / 1000;
  if (seconds >= 1) {
    const [enhanced, all] = [counted.enhanced, frames - counted.frames].map((each) => Number((each / seconds).toPrecision(2)));
    find("rate").textContent = `${enhanced} of ${all} frames a second`;
    counted = { now, frames, enhanced: 0 };
  }
  counted.enhanced++;
}

// Let go of what was shown before.
function stop() {
  recorder?.stop();
  video.cancelVideoFrameCallback(awaited);
  clearTimeout(waiting);
  video.pause();
  video.srcObject?.getTracks().forEach((track) => track.stop());
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.srcObject = null;
  find("moving").hidden = true;
  find("rate").textContent = "";
}

function download(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name.replace(/\.[^.]*$/, "")}-enhanced.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function save() {
  network.show(0, Number(find("strength").value));
  canvas.toBlob((blob) => download(blob, "png"), "image/png");
  show();
}

// A file is recorded once, from its beginning to its end; a camera until it is enough.
function record() {
  if (recorder) return recorder.stop();
  if (Number.isFinite(video.duration)) {
    video.pause();
    Object.assign(video, { currentTime: 0, loop: false });
  }
  const parts = [];
  recorder = new MediaRecorder(canvas.captureStream(), { videoBitsPerSecond: 12e6 });
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    download(new Blob(parts, { type: recorder.mimeType }), recorder.mimeType.includes("mp4") ? "mp4" : "webm");
    recorder = null;
    video.loop = true;
    find("record").textContent = "Record a video, without sound";
    show();
  };
  recorder.onstart = () => video.play();
  recorder.start();
  find("record").textContent = "Stop, and save the video";
}

find("file").onchange = (event) => event.target.files[0] && open(event.target.files[0]);
find("camera").onclick = useCamera;
find("save").onclick = save;
find("record").onclick = record;
find("full").onchange = (event) => {
  const stage = find("stage");
  stage.classList.toggle("full", event.target.checked);
  stage.scrollTo((stage.scrollWidth - stage.clientWidth) / 2, (stage.scrollHeight - stage.clientHeight) / 2);
};
find("play").onclick = () => (video.paused ? video.play() : video.pause());
find("time").oninput = (event) => (video.currentTime = event.target.value * video.duration);
video.onended = () => recorder?.stop();
video.onplay = video.onpause = () => {
  counted = null;
  find("play").textContent = video.paused ? "Play" : "Pause";
};
handle.oninput = find("strength").oninput = show;
document.ondragover = (event) => { event.preventDefault(); document.body.classList.add("over"); };
document.ondragleave = () => document.body.classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (network && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
};
start();
