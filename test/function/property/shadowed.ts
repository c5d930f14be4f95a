/** The function and the reference side by side, and between the function and its memory a watch that keeps a copy. */
import type { SdxiFunction } from '../../../src/function/index.js';
import { PageLog, ShadowWatch } from '../shadow.js';
import type { Piece } from './estate.js';
import { Lockstep } from './lockstep.js';
import { Violation } from './reference-context.js';

interface Turning {
  engine: { turn: (...of: unknown[]) => number };
}

export class ShadowedLockstep extends Lockstep {
  /** Made when the first piece is mapped, in a constructor before this one, and so no field that this one would clear. */
  declare private shadowMade: ShadowWatch | undefined;

  private get shadow(): ShadowWatch {
    this.shadowMade ??= new ShadowWatch();
    return this.shadowMade;
  }

  protected override mapReal({ pasid, start, length, access, bank, offset }: Piece): void {
    this.spaces.bind(pasid).map(start, length, access, this.shadow.of(this.windows[bank]), offset, this.shadow);
  }

  protected override another(): SdxiFunction {
    const fn = super.another();
    this.shadow.follow(fn);
    return fn;
  }

  /** The reference looks at memory after each turn. */
  protected override follow(): void {
    const { engine } = this.fn as unknown as Turning;
    const turn = engine.turn.bind(engine);
    engine.turn = (...of) => {
      const turns = turn(...of);
      this.shadow.flush();
      return turns;
    };
    super.follow();
  }
}

/** Everything that changes is reported, and nothing is that cannot be written. */
export class LoggedLockstep extends Lockstep {
  private logMade: PageLog | undefined;
  private readonly pageBytes = 4096;
  static reports = 0;

  private get log(): PageLog {
    if (this.logMade === undefined) {
      this.logMade = new PageLog();
      this.spaces.setWatch(this.logMade);
    }
    return this.logMade;
  }

  override step(budget: number): number {
    const { log } = this;
    log.pages.clear();
    const before = this.banks.map((bank) => Buffer.from(bank));
    const turns = super.step(budget);
    const { pages } = log;
    LoggedLockstep.reports += pages.size;
    for (const { bank, offset, length, start, present, what } of this.estate.pieces) {
      if (!present) continue;
      for (let at = 0; at < length; ) {
        const page = Math.floor((start + at) / this.pageBytes) * this.pageBytes;
        const end = Math.min(length, page + this.pageBytes - start);
        const changed = before[bank].compare(this.banks[bank], offset + at, offset + end, offset + at, offset + end) !== 0;
        if (changed && !pages.has(page)) throw new Violation(`${what}: page 0x${page.toString(16)} changed and was not reported`);
        at = end;
      }
    }
    return turns;
  }
}
