/** What begins a message of the guest's first process. A program may print it too: then no known word follows. */
const MARK = 0x1e;
/** No message is as long. */
const MESSAGE_MAX = 64;

/** A command that the guest works on. */
interface Waiting {
  readonly mark: string;
  readonly resolve: (result: { code: number; output: string }) => void;
  readonly onData?: (bytes: Buffer) => void;
  readonly chunks: Buffer[];
}

/**
 * The guest's end of the command line: what comes over its serial port is output of the command that runs, until a line `MARK word status`.
 */
export class ConsoleReader {
  private readonly onReady: () => void;
  private waiting: Waiting | undefined;
  private line: Buffer | undefined;
  /** Commands that nobody waits for any more, but that still run. */
  private readonly late = new Set<string>();

  /** @param onReady the guest takes commands now: after its start, and after each restart */
  constructor(onReady: () => void) {
    this.onReady = onReady;
  }

  /** Output from now on belongs to this command. */
  expect(mark: string, onData?: (bytes: Buffer) => void): Promise<{ code: number; output: string }> {
    return new Promise((resolve) => {
      this.waiting = { mark, resolve, onData, chunks: [] };
    });
  }

  /** Nobody waits any more. */
  forget(): void {
    if (this.waiting !== undefined) this.late.add(this.waiting.mark);
    this.waiting = undefined;
  }

  /** Output of the command that runs, so far. */
  get output(): string {
    return this.waiting === undefined ? '' : Buffer.concat(this.waiting.chunks).toString();
  }

  take(bytes: Buffer): void {
    let rest = bytes;
    while (rest.length > 0) {
      if (this.line !== undefined) rest = this.takeMark(rest);
      else {
        const at = rest.indexOf(MARK);
        this.print(at < 0 ? rest : rest.subarray(0, at));
        if (at < 0) return;
        this.line = Buffer.alloc(0);
        rest = rest.subarray(at + 1);
      }
    }
  }

  private takeMark(bytes: Buffer): Buffer {
    const begun = this.line as Buffer;
    const end = bytes.indexOf(0x0a);
    const again = bytes.subarray(0, end < 0 ? bytes.length : end).indexOf(MARK);
    if (again >= 0) {
      // A message has no mark in it: what stood before this one was printed by a program.
      this.line = undefined;
      this.print(Buffer.concat([Buffer.of(MARK), begun, bytes.subarray(0, again)]));
      return bytes.subarray(again);
    }
    this.line = Buffer.concat([begun, end < 0 ? bytes : bytes.subarray(0, end)]);
    if (end < 0 && this.line.length <= MESSAGE_MAX) return bytes.subarray(bytes.length);
    if (end < 0) {
      this.print(Buffer.concat([Buffer.of(MARK), this.line]));
      this.line = undefined;
      return bytes.subarray(bytes.length);
    }
    const message = this.line;
    const [word, status] = message.toString().split(' ');
    this.line = undefined;
    const { waiting } = this;
    if (word === 'ready') this.onReady();
    else if (waiting !== undefined && word === waiting.mark) {
      this.waiting = undefined;
      waiting.resolve({ code: Number(status), output: Buffer.concat(waiting.chunks).toString() });
    } else if (this.late.delete(word)) {
      // All of it so far was the late command's.
      if (waiting !== undefined) waiting.chunks.length = 0;
    } else this.print(Buffer.concat([Buffer.of(MARK), message, Buffer.of(0x0a)]));
    return bytes.subarray(end + 1);
  }

  private print(bytes: Buffer): void {
    if (bytes.length === 0 || this.waiting === undefined) return;
    this.waiting.chunks.push(Buffer.from(bytes));
    this.waiting.onData?.(bytes);
  }
}
