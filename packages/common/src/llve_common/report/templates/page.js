"use strict";
// Pictures of one thing under one handle: which two is chosen below, or by their lists; of a clip,
// all show the same frame.

class Group {
  constructor(figure) {
    this.find = (name) => figure.querySelector(`.${name}`);
    this.figure = figure;
    Object.assign(this, JSON.parse(this.find("data").textContent));
    this.picks = [...figure.querySelectorAll(".pick")];
    const view = this.find("view");
    const style = (name, value) => view.style.setProperty(name, value);
    this.find("of-right").onload = ({ target }) => figure.style.setProperty("--sides", target.naturalWidth / target.naturalHeight);
    this.picks.forEach((pick, number) => (pick.onclick = () => this.choose("right", number)));
    this.find("left").onchange = this.find("right").onchange = () => this.show();
    this.find("at").oninput = (event) => style("--at", `${event.target.value}%`);
    this.find("zoom").oninput = (event) => {
      style("--zoom", event.target.value);
      figure.classList.toggle("zoomed", event.target.value > 2);
      this.find("place").hidden = event.target.value <= 1;
    };
    for (const axis of ["x", "y"]) {
      this.find(axis).oninput = (event) => style(`--${axis}`, `${event.target.value}%`);
    }
    view.onpointermove = (event) => {
      if (event.pointerType !== "mouse" || event.buttons) return;
      const box = view.getBoundingClientRect();
      const place = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
      for (const axis of ["x", "y"]) {
        this.find(axis).value = 100 * place[axis];
        style(`--${axis}`, `${100 * place[axis]}%`);
      }
    };
    this.frame = this.find("frame");
    if (this.frame) {
      this.frame.oninput = () => this.show();
      this.find("play").onclick = () => this.play();
    }
    this.show();
  }

  choose(side, number) {
    this.find(side).value = number;
    this.show();
  }

  show() {
    const frame = this.frame ? Number(this.frame.value) : 0;
    for (const side of ["left", "right"]) {
      const panel = this.panels[this.find(side).value];
      this.find(`of-${side}`).src = panel.pictures[frame];
      this.find(`of-${side}`).alt = this.find(`name.${side}`).textContent = panel.label;
    }
    this.find("at").setAttribute("aria-label", `${this.panels[this.find("left").value].label} or ${this.panels[this.find("right").value].label}: the place of the handle`);
    this.picks.forEach((pick, number) => {
      pick.setAttribute("aria-pressed", number === Number(this.find("right").value));
      pick.querySelector(".said").textContent = this.panels[number].said[frame] ?? "";
      // What plays is shown large alone: the small ones follow where it stops.
      if (!this.timer) pick.querySelector("img").src = this.panels[number].pictures[frame];
    });
    if (this.frame) this.find("shown").value = this.frames[frame];
  }

  play() {
    if (this.timer) {
      clearInterval(this.timer);
      this.timer = 0;
    } else {
      const step = () => {
        this.frame.value = (Number(this.frame.value) + 1) % this.panels[0].pictures.length;
        this.show();
      };
      this.timer = setInterval(step, 1000 / 12);
    }
    this.find("play").textContent = this.timer ? "Stop" : "Play";
    this.show();
  }
}

async function copy(button) {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent.slice(2));
    button.textContent = "Copied";
  } catch {
    // Where the browser forbids it, what is chosen can be copied by the keyboard.
    getSelection().selectAllChildren(code);
  }
}

document.querySelectorAll(".group").forEach((figure) => new Group(figure));
document.querySelectorAll(".copy").forEach((button) => (button.onclick = () => copy(button)));
