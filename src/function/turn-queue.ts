import type { FunctionContext } from './context.js';

/** Contexts in line for a turn, each at most once. */
export interface Turns {
  readonly empty: boolean;
  /** Puts a context in line, unless it is there already. */
  push(context: FunctionContext): void;
  /** Takes out the one whose turn it is, if there is one. */
  shift(): FunctionContext | undefined;
  clear(): void;
}

/**
 * Contexts in line for a turn: first in, first out, each at most once (S-45). A list through the contexts themselves
 * ({@link FunctionContext.behind}): this runs once a slice, and must not feed the garbage collector.
 */
export class TurnQueue implements Turns {
  private first: FunctionContext | undefined;
  private last: FunctionContext | undefined;

  get empty(): boolean {
    return this.first === undefined;
  }

  /** Puts a context at the end, unless it is in line already. */
  push(context: FunctionContext): void {
    if (context.queued) return;
    context.queued = true;
    if (this.last === undefined) this.first = context;
    else this.last.behind = context;
    this.last = context;
  }

  /** Takes the first one out, if there is one. */
  shift(): FunctionContext | undefined {
    const context = this.first;
    if (context === undefined) return undefined;
    this.first = context.behind;
    if (this.first === undefined) this.last = undefined;
    context.behind = undefined;
    context.queued = false;
    return context;
  }

  clear(): void {
    while (this.shift() !== undefined);
  }
}

/** Turns of each class in a round, by CXT_CTL.qos. */
export const QOS_WEIGHTS = [1, 2, 4, 8] as const;

/**
 * Option `qos`: one line for each class of CXT_CTL.qos, and rounds in which a class has as many turns as its weight. The most urgent
 * class that has turns left is served first; a round ends when nobody in line has any. So an urgent context waits for one turn of
 * others as a rule, and the least urgent class has every 15th turn at least.
 */
export class WeightedQueue implements Turns {
  private readonly lines = QOS_WEIGHTS.map(() => new TurnQueue());
  private readonly left: number[] = [...QOS_WEIGHTS];

  get empty(): boolean {
    const { lines } = this;
    return lines[0].empty && lines[1].empty && lines[2].empty && lines[3].empty;
  }

  push(context: FunctionContext): void {
    this.lines[context.qos].push(context);
  }

  shift(): FunctionContext | undefined {
    return this.serve() ?? (this.empty ? undefined : this.nextRound());
  }

  clear(): void {
    for (const line of this.lines) line.clear();
  }

  private serve(): FunctionContext | undefined {
    for (let qos = this.lines.length - 1; qos >= 0; qos--) {
      if (this.left[qos] === 0 || this.lines[qos].empty) continue;
      this.left[qos]--;
      return this.lines[qos].shift();
    }
    return undefined;
  }

  private nextRound(): FunctionContext | undefined {
    for (let qos = 0; qos < this.left.length; qos++) this.left[qos] = QOS_WEIGHTS[qos];
    return this.serve();
  }
}
