// Makes the pages livelier; each of them works without it. What #live holds is fetched again every data-every
// milliseconds, and taken over when it has changed. Nothing is kept, nothing goes anywhere but back here.
"use strict";

const live = document.getElementById("live");
const announce = document.getElementById("announce");
const offline = document.getElementById("offline");

for (const reload of document.querySelectorAll("#no-script")) reload.hidden = true;

// What stands there without the clocks, which always change.
function fingerprint(region) {
  const copy = region.cloneNode(true);
  for (const clock of copy.querySelectorAll("[data-clock]")) clock.remove();
  for (const changed of copy.querySelectorAll("details, .copy")) changed.replaceWith(...changed.childNodes);
  return copy.innerHTML;
}

// Somebody writes in a field that would still be there: that can wait.
function isWriting(fresh) {
  const active = document.activeElement;
  return live.contains(active) && active.matches("input") && fresh.querySelector(`#${active.id}`) !== null;
}

function takeOver(fresh) {
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const open = new Set([...live.querySelectorAll("details[open]")].map((each) => each.id));
  const written = [...live.querySelectorAll("input:not([type=hidden])")].filter((each) => each.value !== each.defaultValue);
  live.replaceChildren(...fresh.childNodes);
  for (const { id, value } of written) {
    const field = document.getElementById(id);
    if (field) field.value = value;
  }
  for (const each of live.querySelectorAll("details")) each.open = open.has(each.id);
  if (focused) (document.getElementById(focused.id) || live.querySelector("[tabindex]") || live).focus();
  if (fresh.dataset.announce && fresh.dataset.announce !== live.dataset.announce) {
    live.dataset.announce = fresh.dataset.announce;
    announce.textContent = fresh.dataset.announce;
  }
  prepare();
}

// A page that refuses what was written is not the page that is fetched: nothing has changed by that.
let seen = live && !live.querySelector("[aria-invalid]") ? fingerprint(live) : null;

async function look() {
  if (document.visibilityState === "visible") {
    try {
      const response = await fetch(location.href.replace(/#.*/, ""), { cache: "no-store" });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("live");
      offline.hidden = true;
      if (fresh && seen === null) seen = fingerprint(fresh);
      if (fresh && fingerprint(fresh) !== seen && !isWriting(fresh)) {
        seen = fingerprint(fresh);
        document.title = page.title;
        takeOver(fresh);
      }
    } catch {
      offline.textContent = offline.dataset.text;
      offline.hidden = false;
    }
  }
  setTimeout(look, Number(live.dataset.every));
}

// The time left, second by second, from what the server said when the page came.
let began = performance.now();

function tick() {
  for (const clock of document.querySelectorAll("[data-clock]")) {
    const left = Math.max(0, Number(clock.dataset.left) - Math.floor((performance.now() - began) / 1000));
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    const digits = clock.querySelector("[role=timer]");
    if (digits.textContent !== text) digits.textContent = text;
    clock.querySelector("progress").value = left;
    clock.classList.toggle("short", left <= 30);
  }
}

function prepare() {
  began = performance.now();
  leave();
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = !navigator.clipboard;
    button.onclick = async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      const before = button.textContent;
      button.textContent = button.dataset.done;
      announce.textContent = button.dataset.done;
      setTimeout(() => { button.textContent = before; }, 1500);
    };
  }
}

// Where the page leads: the customer's browser goes there by itself, a moment later.
let leaving = 0;

function leave() {
  const way = document.querySelector("[data-leave-after]");
  if (way && !leaving) leaving = setTimeout(() => location.assign(way.href), Number(way.dataset.leaveAfter));
}

prepare();
setInterval(tick, 250);
if (live) setTimeout(look, Number(live.dataset.every));
