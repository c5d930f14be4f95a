/** How long it takes until there is room for as many lines again. */
const WINDOW_MS = 1000;

/** What is worth a line in the log. A client decides how often that is, so there is a limit: beyond it lines are counted. */
export class ThreadLog {
  private readonly name: string;
  private readonly burst: number;
  private readonly write: (line: string) => void;
  private since = performance.now();
  private lines = 0;
  private dropped = 0;

  /** @param burst lines in a row */
  constructor(name: string, burst: number, write: (line: string) => void) {
    this.name = name;
    this.burst = burst;
    this.write = write;
  }

  line(text: string): void {
    const now = performance.now();
    if (now - this.since >= WINDOW_MS) {
      if (this.dropped > 0) this.write(`${this.name}: ${this.dropped} more lines were left out`);
      this.since = now;
      this.lines = 0;
      this.dropped = 0;
    }
    if (++this.lines > this.burst) this.dropped++;
    else this.write(`${this.name}: ${text}`);
  }
}
