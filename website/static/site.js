// Live charts in place of their pictures, and a language switch that keeps the place on the page.
"use strict";

// Scripts are added as elements: pages opened from the disk may not fetch() anything.
const loading = {};
function load(source) {
  loading[source] ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    Object.assign(script, { src: source, onload: done, onerror: failed });
    document.head.append(script);
  });
  return loading[source];
}

function values(figure) {
  return JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
}

async function drawChart(figure) {
  await load(figure.dataset.script);
  const { spec, options } = values(figure);
  const place = document.createElement("div");
  place.className = "live";
  figure.append(place);
  await vegaEmbed(place, spec, { ...options, renderer: "svg" });
  const picture = figure.querySelector("img");
  const drawn = place.querySelector("svg.marks");
  drawn.setAttribute("role", "img"); // one picture with one description, as for the PNG
  drawn.setAttribute("aria-label", picture.alt);
  drawn.querySelectorAll("[role], [aria-label], [aria-roledescription]").forEach((part) => {
    for (const name of ["role", "aria-label", "aria-roledescription"]) part.removeAttribute(name);
  });
  place.querySelector("summary")?.setAttribute("aria-label", options.i18n.CLICK_TO_VIEW_ACTIONS);
  if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
  figure.classList.add("is-live");
}

// A drawn figure may be higher or lower than its picture: until the reader does something, the place
// that the address names stays where it was.
let untouched = true;
for (const kind of ["wheel", "touchstart", "pointerdown", "keydown"]) {
  addEventListener(kind, () => (untouched = false), { once: true, passive: true });
}
function keepPlace() {
  const name = decodeURIComponent(location.hash.slice(1));
  if (untouched && name) document.getElementById(name)?.scrollIntoView();
}
addEventListener("load", keepPlace);

// A figure is drawn when it comes near the screen; if that fails, its picture stays.
const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      const draw = target.matches(".token-map") ? drawTokenMap : drawChart;
      draw(target).then(keepPlace, (error) => {
        target.querySelector("div.live:empty")?.remove();
        console.warn("the picture stays:", error);
      });
    }
  },
  { rootMargin: "600px" },
);
document.querySelectorAll("figure[data-script]").forEach((figure) => near.observe(figure));

// Both languages have the same places: the last one above the middle of the screen is kept.
document.querySelectorAll("a.language").forEach((link) => {
  const page = link.getAttribute("href");
  link.addEventListener("click", () => {
    const above = [...document.querySelectorAll(".place")].filter(
      (place) => place.getBoundingClientRect().top < innerHeight / 3,
    );
    link.href = page + location.search + (above.length ? `#${above.at(-1).id}` : "");
  });
});
