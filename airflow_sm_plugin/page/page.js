// Airflow shows this page in a frame that may not navigate its parent. A link of the parent's own document may.
"use strict";
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
