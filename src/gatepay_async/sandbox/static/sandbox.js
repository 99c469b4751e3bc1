// Optional: every page also works without this script. It fetches the page again every data-every milliseconds, and
// replaces the content of #live if it has changed. It stores nothing, and sends nothing to any other server.
"use strict";

const live = document.getElementById("live");
const announce = document.getElementById("announce");
const offline = document.getElementById("offline");

for (const reload of document.querySelectorAll("#no-script")) reload.hidden = true;

// Return the region's HTML without what differs between two fetches (the clocks) and what this script or the user
// changes (copy buttons, open details).
function fingerprint(region) {
  const copy = region.cloneNode(true);
  for (const clock of copy.querySelectorAll("[data-clock]")) clock.remove();
  for (const wrapper of copy.querySelectorAll("details, .copy")) wrapper.replaceWith(...wrapper.childNodes);
  return copy.innerHTML;
}

// Whether the focus is in a field that the fetched content has, too. Then the content is replaced later.
function isEditing(fetched) {
  const active = document.activeElement;
  return live.contains(active) && active.matches("input") && fetched.querySelector(`#${active.id}`) !== null;
}

// Replace the content of #live, but keep the focus, the open details and the text in the fields.
function replaceContent(fetched) {
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const openIds = new Set([...live.querySelectorAll("details[open]")].map((details) => details.id));
  const inputs = [...live.querySelectorAll("input:not([type=hidden])")];
  const edited = inputs.filter((input) => input.value !== input.defaultValue);
  live.replaceChildren(...fetched.childNodes);
  for (const { id, value } of edited) {
    const field = document.getElementById(id);
    if (field) field.value = value;
  }
  for (const details of live.querySelectorAll("details")) details.open = openIds.has(details.id);
  if (focused) (document.getElementById(focused.id) || live.querySelector("[tabindex]") || live).focus();
  if (fetched.dataset.announce && fetched.dataset.announce !== live.dataset.announce) {
    live.dataset.announce = fetched.dataset.announce;
    announce.textContent = fetched.dataset.announce;
  }
  setUpContent();
}

// Null for a page that shows an error at a field: the fetched page never shows it. So the first fetch doesn't replace
// the content, which would remove the error.
let shownFingerprint = live && !live.querySelector("[aria-invalid]") ? fingerprint(live) : null;

async function refresh() {
  if (document.visibilityState === "visible") {
    try {
      const response = await fetch(location.href.replace(/#.*/, ""), { cache: "no-store" });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fetched = page.getElementById("live");
      offline.hidden = true;
      if (fetched && shownFingerprint === null) shownFingerprint = fingerprint(fetched);
      if (fetched && fingerprint(fetched) !== shownFingerprint && !isEditing(fetched)) {
        shownFingerprint = fingerprint(fetched);
        document.title = page.title;
        replaceContent(fetched);
      }
    } catch {
      offline.textContent = offline.dataset.text;
      offline.hidden = false;
    }
  }
  setTimeout(refresh, Number(live.dataset.every));
}

// When the content was shown. The clocks count down from the seconds (data-left) that the server wrote into it.
let shownAt = performance.now();

function updateClocks() {
  for (const clock of document.querySelectorAll("[data-clock]")) {
    const left = Math.max(0, Number(clock.dataset.left) - Math.floor((performance.now() - shownAt) / 1000));
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    const digits = clock.querySelector("[role=timer]");
    if (digits.textContent !== text) digits.textContent = text;
    clock.querySelector("progress").value = left;
    clock.classList.toggle("short", left <= 30);
  }
}

function setUpContent() {
  shownAt = performance.now();
  scheduleRedirect();
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = !navigator.clipboard;
    button.onclick = async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      const label = button.textContent;
      button.textContent = button.dataset.done;
      announce.textContent = button.dataset.done;
      setTimeout(() => { button.textContent = label; }, 1500);
    };
  }
}

// 0, or the timer of the redirect: it is started once, even if the content is replaced meanwhile.
let redirectTimer = 0;

// Follow the link that has data-leave-after (to the shop), after so many milliseconds.
function scheduleRedirect() {
  const link = document.querySelector("[data-leave-after]");
  if (link && !redirectTimer) {
    redirectTimer = setTimeout(() => location.assign(link.href), Number(link.dataset.leaveAfter));
  }
}

setUpContent();
setInterval(updateClocks, 250);
if (live) setTimeout(refresh, Number(live.dataset.every));
