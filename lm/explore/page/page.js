const $ = (selector, within = document) => within.querySelector(selector);
const HUES = 8; // labels with a colour of their own

let about;

// Requests: a stream of JSON lines, one after the other

async function* lines(path, asked, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(asked),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") return;
    throw new Error("The server does not answer; has it been stopped?");
  }
  if (!response.ok) throw new Error((await response.json()).error);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = JSON.parse(part);
        if (event.error) throw new Error(event.error);
        yield event;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    throw error instanceof TypeError ? new Error("The server was stopped.") : error;
  }
}

// A section with a form, a message, a text and a line of detail on one of its tokens

class Section {
  constructor(name) {
    this.root = $(`#${name}`);
    this.message = $(".message", this.root);
    this.text = $(".text", this.root);
    this.detail = $(".detail", this.root);
    this.tokens = [];
    this.at = -1;
    this.controller = null;
    $("form", this.root).addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    $("textarea", this.root).addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.run();
    });
    $(".stop", this.root).addEventListener("click", () => this.controller?.abort());
    this.text.addEventListener("pointerover", (event) => this.look(event.target.dataset?.at));
    this.text.addEventListener("click", (event) => this.look(event.target.dataset?.at));
    this.text.addEventListener("keydown", (event) => this.move(event));
  }

  say(words, wrong = false) {
    this.message.textContent = words;
    this.message.classList.toggle("wrong", wrong);
  }

  async run() {
    this.controller?.abort();
    const controller = (this.controller = new AbortController());
    $(".stop", this.root).disabled = false;
    this.say("…");
    try {
      await this.work(controller.signal);
      if (this.controller === controller) this.say(controller.signal.aborted ? "Stopped." : "");
    } catch (error) {
      if (this.controller === controller) this.say(error.message, true);
    }
    if (this.controller === controller) $(".stop", this.root).disabled = true;
  }

  clear() {
    this.tokens = [];
    this.at = -1;
    this.text.replaceChildren();
    this.detail.textContent = "";
  }

  add(token) {
    const span = document.createElement("span");
    span.textContent = token.text;
    span.dataset.at = this.tokens.length;
    this.tokens.push(token);
    token.span = span;
    const low = this.text.scrollTop + this.text.clientHeight > this.text.scrollHeight - 40;
    this.text.append(span);
    if (low) this.text.scrollTop = this.text.scrollHeight;
    return span;
  }

  look(at) {
    if (at === undefined) return;
    this.tokens[this.at]?.span.classList.remove("at");
    this.at = Number(at);
    this.tokens[this.at].span.classList.add("at");
    this.detail.replaceChildren(...this.describe(this.tokens[this.at]));
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 40, ArrowUp: -40 }[event.key];
    const end = { Home: 0, End: this.tokens.length - 1 }[event.key];
    if (!this.tokens.length || (step === undefined && end === undefined)) return;
    event.preventDefault();
    this.look(Math.max(0, Math.min(this.tokens.length - 1, end ?? this.at + step)));
    this.tokens[this.at].span.scrollIntoView({ block: "nearest" });
  }
}

// A token without the blank that stands before words
const alone = ({ text }) => (text.startsWith(about.between) ? text.slice(about.between.length) : text);

function bold(text) {
  const b = document.createElement("b");
  b.textContent = text.replaceAll("\n", "↵").replaceAll(" ", "␣");
  return b;
}

function percent(share) {
  return share >= 0.0995 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`;
}

function mixed(colour, share) {
  return `color-mix(in srgb, var(--${colour}) ${Math.round(100 * share)}%, transparent)`;
}

// The share of colour for a token of this probability: none when it is certain, all below one in a thousand
const surprise = (p) => Math.min(1, -Math.log10(Math.max(p, 1e-3)) / 3);

// Write

class Write extends Section {
  place = null;
  saved = [];

  async work(signal) {
    const prompt = $("#prompt").value;
    const from = this.chosen;
    if (!from) this.clear();
    else if (this.restored !== from) this.restore(from);
    this.place = null;
    $("#save").disabled = true;
    if (prompt) this.add({ text: (from ? about.between : "") + prompt }).className = "prompt";
    const asked = {
      prompt,
      place: from?.place ?? null,
      temperature: $("#temperature").valueAsNumber,
      top_k: $("#top-k").valueAsNumber || 0,
      length: $("#length").valueAsNumber,
    };
    this.restored = null;
    for await (const event of lines("write", asked, signal)) {
      if (event.place) {
        this.place = event.place;
        $("#save").disabled = false;
      } else {
        this.add(event).style.background = mixed("unlikely", surprise(event.p));
      }
    }
  }

  describe(token) {
    if (token.p === undefined) return ["prompt"];
    const parts = [bold(alone(token)), ` ${percent(token.p)}`];
    for (const [text, share] of token.others) {
      if (text !== alone(token)) parts.push(" · ", bold(text), ` ${percent(share)}`);
    }
    return parts;
  }

  save() {
    const kept = this.tokens.map(({ span, ...token }) => token);
    const name = kept.map((token) => token.text).join("").slice(-24).trim();
    this.saved.push({ place: this.place, tokens: kept, name });
    this.choose(this.saved.at(-1));
  }

  restore(saved) {
    this.clear();
    for (const token of saved.tokens) {
      const span = this.add({ ...token });
      if (token.p === undefined) span.className = "prompt";
      else span.style.background = mixed("unlikely", surprise(token.p));
    }
    this.place = saved.place;
    this.restored = saved;
    $("#save").disabled = false;
  }

  choose(saved) {
    this.chosen = saved;
    if (saved) this.restore(saved);
    const items = [null, ...this.saved].map((place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = place ? `… ${place.name}` : "From the start";
      button.setAttribute("aria-pressed", String(place === this.chosen));
      button.addEventListener("click", () => this.choose(place));
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    $("#places").replaceChildren(...items);
    $("#prompt").value = saved ? "" : about.prompt;
    $("#prompt").placeholder = saved ? "Another prompt, or nothing: go on from the saved place" : "";
  }
}

// Read

class Read extends Section {
  async work(signal) {
    this.clear();
    this.units = null;
    for (const hidden of [".units", "#course", "#labels"]) $(hidden, this.root).hidden = true;
    for await (const event of lines("read", { text: $("#text").value }, signal)) {
      for (const token of event.tokens ?? []) this.colour(this.add(token), token);
      if (event.values) this.show(event);
    }
    if (about.kind === "classifier") this.draw();
    if (about.kind === "tagger") $("#labels").hidden = false;
  }

  colour(span, token) {
    if (token.label !== undefined) {
      span.style.background = labelColour(token.label);
    } else if (token.shares) {
      const [best, share] = highest(token.shares);
      span.style.background = classColour(best, share);
    } else if (token.p) {
      span.style.background = mixed("unlikely", surprise(token.p));
    }
  }

  describe(token) {
    if (token.label !== undefined) return [bold(token.text), ` ${token.label}`];
    if (token.shares) {
      return [bold(token.text), ...about.classes.map((name, at) => ` · ${name} ${percent(token.shares[at])}`)];
    }
    const parts = [bold(alone(token))];
    if (this.units) {
      const value = this.units.values[this.unit * this.tokens.length + this.at];
      parts.push(` · unit ${this.unit} at ${percent((value + 127) / 254)} of its range`);
    }
    if (token.p) parts.push(` · probability ${percent(token.p)}`);
    return parts;
  }

  show({ features, closeness, values }) {
    const bytes = Uint8Array.from(atob(values), (character) => character.charCodeAt(0));
    this.units = { features, closeness, values: new Int8Array(bytes.buffer) };
    $("#feature").replaceChildren(new Option("closest feature", -1), ...features.map((name, at) => new Option(name, at)));
    $(".units").hidden = false;
    this.sort();
  }

  // Units in the order of how closely they follow the chosen feature, or each the one that it follows most closely
  sort() {
    const chosen = Number($("#feature").value);
    const size = (values, at) => Math.abs(values[at] ?? 0);
    this.sorted = this.units.closeness.map((values, unit) => {
      const closest = values.reduce((best, _, at) => (size(values, at) > size(values, best) ? at : best), 0);
      return { unit, at: chosen < 0 ? closest : chosen, values };
    });
    this.sorted.sort((one, other) => size(other.values, other.at) - size(one.values, one.at));
    const slider = $("#unit");
    slider.max = this.sorted.length - 1;
    slider.value = 0;
    this.paint();
  }

  paint() {
    const { unit, at, values: closeness } = this.sorted[$("#unit").valueAsNumber];
    this.unit = unit;
    const name = this.units.features[at];
    const words = name ? `${unit}: follows “${name}” (correlation ${closeness[at].toFixed(2)})` : `${unit}`;
    $("#unit-name").textContent = words;
    $("#unit").setAttribute("aria-valuetext", words);
    const values = this.units.values.subarray(unit * this.tokens.length, (unit + 1) * this.tokens.length);
    this.tokens.forEach(({ span }, place) => {
      const value = values[place] / 127;
      span.style.background = mixed(value > 0 ? "plus" : "minus", Math.abs(value) * 0.85);
    });
    if (this.at >= 0) this.look(this.at);
  }

  // The probability of each class from word to word
  draw() {
    const width = Math.max(1, this.tokens.length - 1);
    const svg = about.classes.map((_, at) => {
      const points = this.tokens.map(({ shares }, x) => `${x},${(100 * (1 - shares[at])).toFixed(1)}`);
      return `<polyline points="${points.join(" ")}" fill="none" stroke="hsl(${hue(at)} 65% 50%)" stroke-width="2" vector-effect="non-scaling-stroke"/>`;
    });
    const [best, share] = highest(this.tokens.at(-1).shares);
    const words = `${about.classes[best]}, ${percent(share)}, after ${this.tokens.length} words`;
    $("#course").innerHTML = `<svg viewBox="0 -4 ${width} 108" preserveAspectRatio="none" role="img">${svg.join("")}</svg>`;
    $("#course svg").setAttribute("aria-label", `The probability of each class from word to word: ${words}`);
    const caption = document.createElement("figcaption");
    caption.textContent = `${words}; the line of each class from 0 to 100 %`;
    $("#course").append(caption);
    $("#course").hidden = $("#labels").hidden = false;
  }
}

const hue = (at) => (205 + at * (360 / HUES) * 3) % 360;
const classColour = (at, share) => `hsl(${hue(at)} 65% 50% / ${Math.round(60 * Math.max(0, share - 0.5) * 2)}%)`;

function highest(shares) {
  const best = shares.indexOf(Math.max(...shares));
  return [best, shares[best]];
}

function labelColour(label) {
  if (label === "O") return "transparent";
  const kind = label.split("-").at(-1);
  return `hsl(${hue(about.kinds.indexOf(kind))} 65% 50% / ${label.startsWith("I-") ? 30 : 45}%)`;
}

// The page

function choose(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(`#${tab.getAttribute("aria-controls")}`).hidden = !chosen;
  }
}

function legend(names, colours) {
  const items = names.map((name, at) => {
    const item = document.createElement("li");
    const span = document.createElement("span");
    span.textContent = name;
    span.style.background = colours[at];
    item.append(span);
    return item;
  });
  $("#labels").replaceChildren(...items);
}

async function start() {
  about = await (await fetch("about")).json();
  $("#model").textContent = about.name;
  const read = new Read("read");
  $("#text").value = about.text;
  $("#feature").addEventListener("change", () => read.sort());
  $("#unit").addEventListener("input", () => read.paint());
  document.querySelectorAll(".shades i").forEach((shade, at) => {
    shade.style.background = mixed("unlikely", at / 4);
  });
  if (about.kind === "language_model") {
    const write = new Write("write");
    $("#save").addEventListener("click", () => write.save());
    write.choose(null);
    $("nav").hidden = false;
    const tabs = [...document.querySelectorAll("[role=tab]")];
    for (const tab of tabs) {
      tab.addEventListener("click", () => choose(tab.id.slice(4)));
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = tabs[1 - tabs.indexOf(tab)];
        choose(other.id.slice(4));
        other.focus();
      });
    }
    choose("write");
    return;
  }
  if (about.kind === "tagger") {
    about.kinds = [...new Set(about.labels.filter((label) => label !== "O").map((label) => label.split("-").at(-1)))];
    legend(about.kinds, about.kinds.map((kind) => labelColour(`B-${kind}`)));
  } else {
    legend(about.classes, about.classes.map((_, at) => classColour(at, 1)));
  }
  $("#read").hidden = false;
}

start();
