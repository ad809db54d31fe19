// Airflow shows this page in a frame. It takes the theme of Airflow's page. A frame may not navigate its parent; a link
// of the parent's own document may.
"use strict";
const outerRoot = window.parent.document.documentElement;
const followTheme = () => {
  for (const name of ["dark", "light"]) document.documentElement.classList.toggle(name, outerRoot.classList.contains(name));
};
if (window.parent !== window) {
  followTheme();
  new MutationObserver(followTheme).observe(outerRoot, { attributeFilter: ["class"] });
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || window.parent === window || event.defaultPrevented) return;
  event.preventDefault();
  const outer = window.parent.document.createElement("a");
  outer.href = link.href;
  outer.rel = "noopener noreferrer";
  outer.target = event.ctrlKey || event.metaKey ? "_blank" : link.target === "_blank" ? "_blank" : "_self";
  window.parent.document.body.append(outer);
  outer.click();
  outer.remove();
});
