// Do something again and again while a page is open and visible.

/** Call `work` now and every `milliseconds`; waits longer after failures, and not at all in the background. */
export function poll(work, milliseconds, signal) {
  let timer = 0;
  let failures = 0;
  let again = false;
  let busy = false;
  const round = async () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    if (busy) {
      again = true;
      return;
    }
    if (!document.hidden) {
      busy = true;
      try {
        await work();
        failures = 0;
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") return;
        failures += 1;
      } finally {
        busy = false;
      }
    }
    if (signal.aborted) return;
    timer = setTimeout(round, again ? 0 : Math.min(15000, milliseconds * 2 ** failures));
    again = false;
  };
  const seen = () => {
    if (!document.hidden) round();
  };
  document.addEventListener("visibilitychange", seen);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  });
  round();
  return round;
}
