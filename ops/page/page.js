// Reads the page anew in place: nothing flickers, the scroll stays. Without this script the browser reloads it.
"use strict";
const main = document.getElementById("main");
const fresh = document.getElementById("fresh");

async function refresh() {
  const busy = document.hidden || String(getSelection()) !== "" || main.contains(document.activeElement);
  if (busy) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const anew = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    if (anew.innerHTML !== main.innerHTML) main.replaceChildren(...anew.childNodes);
    fresh.textContent = "read at " + new Date().toISOString().slice(11, 19);
    fresh.className = "";
  } catch {
    fresh.textContent = "no answer for a while: is it running?";
    fresh.className = "bad";
  }
}

setInterval(refresh, 1000 * Number(main.dataset.refresh));
document.addEventListener("visibilitychange", refresh);
