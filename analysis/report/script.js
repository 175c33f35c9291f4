"use strict";

// The time slider of a run shows one frame of all its pictures.
for (const slider of document.querySelectorAll("input[data-steps]")) {
  const steps = JSON.parse(slider.dataset.steps);
  const section = slider.closest("section");
  const output = slider.closest(".slider").querySelector("output");
  const show = () => {
    const chosen = slider.value;
    for (const image of section.querySelectorAll("img[data-frame]")) {
      image.hidden = image.dataset.frame !== chosen;
    }
    output.textContent = `after step ${steps[chosen]}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  slider.addEventListener("input", show);
  show();
}

// A chart reads out its values where the pointer is, or where arrow keys move the cursor.
for (const figure of document.querySelectorAll("figure.chart")) {
  const { frame, label, power, lines } = JSON.parse(figure.querySelector("script").textContent);
  const [left, right, low, high] = frame;
  const svg = figure.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const readout = figure.querySelector(".readout");
  const times = [...new Set(lines.flatMap(([, x]) => x))].sort((a, b) => a - b);
  let at = times.length - 1;

  const value = (y) => (power ? (10 ** y).toPrecision(3) : String(y));
  const show = () => {
    const time = times[at];
    const x = left + ((time - low) / (high - low)) * (right - left);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.removeAttribute("hidden");
    const shown = lines.map(([name, xs, ys]) => {
      const index = xs.findLastIndex((other) => other <= time);
      return index < 0 || ys[index] === null ? null : `${name} ${value(ys[index])}`;
    });
    readout.textContent = `${label} ${time}: ${shown.filter(Boolean).join(", ")}`;
  };
  const moves = {
    ArrowLeft: () => at - 1,
    ArrowRight: () => at + 1,
    Home: () => 0,
    End: () => times.length - 1,
  };
  figure.addEventListener("keydown", (event) => {
    if (!(event.key in moves)) return;
    at = Math.min(Math.max(moves[event.key](), 0), times.length - 1);
    event.preventDefault();
    show();
  });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const time = low + ((x - left) / (right - left)) * (high - low);
    const apart = times.map((other) => Math.abs(other - time));
    at = apart.indexOf(Math.min(...apart));
    show();
  });
}
