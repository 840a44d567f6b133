// Places on an axis of time on which long waits are drawn short: a run that worked for a second and waited for a month
// still shows what it did.

const SHARE = 4; // a wait that is longer than all work is drawn as long as a quarter of it

/** The scale of an axis from `first` to `end`, in milliseconds. `waits` are pairs [from, to], in their order. */
export class Scale {
  constructor(first, end, waits = []) {
    const waited = waits.reduce((sum, [from, to]) => sum + to - from, 0);
    const work = Math.max(end - first - waited, SHARE);
    this.first = first;
    this.end = end;
    this.cuts = waits.filter(([from, to]) => to - from > work).map(([from, to]) => ({ from, to, drawn: work / SHARE }));
    this.length = this.#drawn(end) || 1;
  }

  /** Return where a time is: from 0, the beginning, to 1, the end. */
  of(time) {
    return this.#drawn(Math.min(Math.max(time, this.first), this.end)) / this.length;
  }

  /** Return the time at a place. */
  at(place) {
    let rest = place * this.length;
    let time = this.first;
    for (const { from, to, drawn } of this.cuts) {
      if (rest < from - time) break;
      rest -= from - time;
      if (rest < drawn) return from + (rest / drawn) * (to - from);
      rest -= drawn;
      time = to;
    }
    return time + rest;
  }

  #drawn(time) {
    let shorter = 0;
    for (const { from, to, drawn } of this.cuts) {
      if (time <= from) break;
      shorter += (Math.min(time, to) - from) * (1 - drawn / (to - from));
    }
    return time - this.first - shorter;
  }
}
