// Once the frame of the page is painted, what fills it is asked for: the first paint waits for none of it.
(function () {
  const LATEST = 1000; // milliseconds; a page in the background is never painted
  let isBegun = false;
  function begin() {
    if (isBegun) return;
    isBegun = true;
    document.head.append(document.importNode(document.getElementById("first").content, true));
  }
  new PerformanceObserver(begin).observe({ type: "paint", buffered: true });
  setTimeout(begin, LATEST);
})();
