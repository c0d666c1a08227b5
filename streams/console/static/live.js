// Puts the fragments that the server sends in place of the part marked data-live.
// Where somebody is using a link in it with the keyboard, that link keeps the focus.
"use strict";
const part = document.querySelector("[data-live]");
if (part && window.EventSource) {
  const source = new EventSource(part.dataset.live);
  source.addEventListener("message", (event) => {
    const focus = part.contains(document.activeElement) && document.activeElement.getAttribute("href");
    part.innerHTML = JSON.parse(event.data);
    if (focus) {
      const again = [...part.querySelectorAll("a")].find((a) => a.getAttribute("href") === focus);
      if (again) again.focus({ preventScroll: true });
    }
    part.dataset.updated = String(Number(part.dataset.updated || 0) + 1);
  });
  addEventListener("pagehide", () => source.close());
}
// One checkbox for all of a list: without JavaScript it is not there.
for (const all of document.querySelectorAll("[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const one of all.form.querySelectorAll(`[name="${all.dataset.all}"]`)) one.checked = all.checked;
  });
}
