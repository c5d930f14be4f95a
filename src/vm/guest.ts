import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { AbortError, ArgumentError, ClosedError, SdxiError, TimeoutError } from '../errors.js';
import { ConsoleReader } from './console.js';
import { diagnosis } from './diagnosis.js';
import { SCRIPT } from './initramfs.js';
import { type GuestOptions, type Prepared, prepareGuest, spawnArguments } from './prepare.js';
import { qmpCommand } from './qmp.js';

/** What a command in the guest has come to. */
export interface Outcome {
  /** Its exit status. */
  readonly code: number;
  /** Standard output and standard error. */
  readonly output: string;
}

/** How a command is run. */
export interface CommandOptions {
  /** How long it may take; default 60,000 ms. */
  readonly timeoutMs?: number;
  /** Its output as it comes; a character may be cut in two. */
  readonly onData?: (bytes: Buffer) => void;
}

const BOOT_MS = 120_000;
const RUN_MS = 60_000;
const QMP_MS = 10_000;
/** A line of the serial port holds so much. */
const COMMAND_MAX = 2800;
const QUIT_MS = 3000;

/** A virtual machine that runs commands. */
export class Guest {
  private readonly child: ChildProcess;
  private readonly folder: string;
  private readonly reader: ConsoleReader;
  private readonly ended: Promise<void>;
  private over = false;
  private errors = '';
  private commands = 0;
  private busy = false;
  /** Nothing runs in the guest: it takes commands, or switches itself off. */
  private atRest = false;
  private ready: (() => void) | undefined;
  private readonly signal: AbortSignal | undefined;
  /** Nothing of a guest outlives this process, whatever ends it. */
  private readonly onExit = () => {
    this.child.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  };
  private readonly onAbort = () => this.child.kill('SIGKILL');

  /** @param signal ends the guest */
  constructor(prepared: Prepared, signal?: AbortSignal) {
    const [command, ...args] = spawnArguments(prepared);
    this.folder = prepared.folder;
    this.signal = signal;
    this.reader = new ConsoleReader(() => {
      this.atRest = true;
      this.ready?.();
    });
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    process.once('exit', this.onExit);
    signal?.addEventListener('abort', this.onAbort, { once: true });
    if (signal?.aborted) this.onAbort();
    this.child.stdout?.on('data', (bytes: Buffer) => this.reader.take(bytes));
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors = (this.errors + text).slice(-4000);
    });
    this.child.stdin?.on('error', () => {}); // QEMU is gone: `ended` says so
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.over = true;
        signal?.removeEventListener('abort', this.onAbort);
        resolve();
      };
      // Not `exit`: the last that it said may still be in the pipes.
      this.child.once('close', end);
      this.child.once('error', (error) => {
        this.errors += error.message;
        end();
      });
    });
  }

  /** Process id of QEMU. */
  get pid(): number {
    return this.child.pid ?? 0;
  }

  get running(): boolean {
    return !this.over;
  }

  /** What the kernel has written to its console. */
  get console(): string {
    try {
      return readFileSync(join(this.folder, 'console'), 'utf8');
    } catch {
      return '';
    }
  }

  /** Waits for the guest's first process, of this boot or the next. */
  async booted(timeoutMs: number): Promise<void> {
    await this.within(
      'booting the guest',
      timeoutMs,
      new Promise<void>((resolve) => {
        this.ready = resolve;
      }),
    );
  }

  /** What kernel, QEMU and the command have said last. */
  private last(): string {
    const lines = `${this.console}\n${this.errors}\n${this.reader.output.slice(-2000)}`.split('\n').filter((line) => line.trim() !== '');
    if (lines.length === 0) return 'neither QEMU nor the guest has said anything: give it more time, it may still be booting';
    return `the last that was said:\n${lines.slice(-12).join('\n')}`;
  }

  private async within<T>(what: string, timeoutMs: number, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new TimeoutError(what, timeoutMs, { hint: this.last() })), timeoutMs);
    });
    const gone = this.ended.then(() => {
      if (this.signal?.aborted) throw new AbortError(what);
      throw new SdxiError('ERR_SDXI_SYSTEM', `QEMU has ended ${this.console === '' ? 'before the guest could boot' : `while ${what}`}`, {
        hint: [diagnosis(this.errors), this.last()].filter((text) => text !== undefined).join('; '),
      });
    });
    gone.catch(() => {});
    try {
      return await Promise.race([work, late, gone]);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Runs a shell command in the guest, one at a time.
   * @throws TimeoutError; SdxiError ERR_SDXI_SYSTEM when QEMU ends meanwhile; ArgumentError for a command that is too long
   */
  async run(command: string, { timeoutMs = RUN_MS, onData }: CommandOptions = {}): Promise<Outcome> {
    const text = Buffer.from(command).toString('base64');
    if (text.length > COMMAND_MAX)
      throw new ArgumentError('the command is too long for the serial port', { hint: 'put it in a file of the guest: the option `files`' });
    if (this.over) throw new ClosedError('the guest');
    if (this.busy) throw new SdxiError('ERR_SDXI_BUSY', 'the guest runs a command already', { hint: 'wait for it' });
    this.busy = true;
    const mark = `m${++this.commands}`;
    try {
      const done = this.reader.expect(mark, onData);
      this.atRest = false;
      this.child.stdin?.write(`${mark} ${text}\n`);
      const outcome = await this.within(`running "${command.slice(0, 80)}" in the guest`, timeoutMs, done);
      this.atRest = true;
      return outcome;
    } finally {
      this.reader.forget();
      this.busy = false;
    }
  }

  /** What the script has come to that the guest was booted for. Asked for at once, or its first output is lost. */
  async script({ timeoutMs = RUN_MS, onData }: CommandOptions): Promise<Outcome> {
    try {
      const outcome = await this.within('running the script in the guest', timeoutMs, this.reader.expect('script', onData));
      this.atRest = true;
      return outcome;
    } finally {
      this.reader.forget();
    }
  }

  /** Starts a command and leaves it running; its output goes to a file in the guest. */
  async start(command: string, outputPath: string): Promise<void> {
    await this.run(`(${command}) > ${outputPath} 2>&1 &`);
  }

  /** QEMU stops where it is: no thread of it runs. */
  pause(): void {
    this.child.kill('SIGSTOP');
  }

  resume(): void {
    this.child.kill('SIGCONT');
  }

  /** A command of QEMU's own monitor (QMP), such as `system_reset`. */
  async qmp(execute: string): Promise<unknown> {
    return await this.within(`asking QEMU for ${execute}`, QMP_MS, qmpCommand(join(this.folder, 'qmp'), execute));
  }

  /** As the reset button does; needs `reboot`. Returns when the guest has booted again. */
  async systemReset(timeoutMs = BOOT_MS): Promise<void> {
    const again = this.booted(timeoutMs);
    this.atRest = false;
    await this.qmp('system_reset');
    await again;
  }

  /** Ends QEMU at once, as a crash would. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** Switches the guest off, at once if it is not at rest, and removes what belongs to it. Idempotent. */
  async close(): Promise<void> {
    if (!this.over) {
      this.child.kill('SIGCONT');
      if (this.atRest) this.child.stdin?.write(`off ${Buffer.from('poweroff -f').toString('base64')}\n`);
      else this.child.kill('SIGKILL');
      const timer = setTimeout(() => this.child.kill('SIGKILL'), QUIT_MS);
      await this.ended;
      clearTimeout(timer);
    }
    process.off('exit', this.onExit);
    rmSync(this.folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Boots a small Debian guest with the functions behind these sockets, and waits until it takes commands.
 * @throws SdxiError ERR_SDXI_SYSTEM when something cannot be fetched or QEMU does not start; TimeoutError
 */
export async function bootGuest(options: GuestOptions = {}): Promise<Guest> {
  const guest = new Guest(await prepareGuest(options, 'file'), options.signal);
  try {
    await guest.booted(options.bootMs ?? BOOT_MS);
    return guest;
  } catch (error) {
    await guest.close();
    throw error;
  }
}

/**
 * Boots a guest for one script, of any length, and switches it off. `timeoutMs` counts from the start of QEMU, default 180,000 ms.
 * @throws SdxiError ERR_SDXI_SYSTEM when something cannot be fetched, QEMU does not start or ends too early; TimeoutError; AbortError
 */
export async function runInGuest(
  options: GuestOptions,
  script: string,
  { timeoutMs = BOOT_MS + RUN_MS, onData }: CommandOptions = {},
): Promise<Outcome> {
  const files = { ...options.files, [SCRIPT]: Buffer.from(script) };
  const guest = new Guest(await prepareGuest({ ...options, files }, 'file'), options.signal);
  try {
    return await guest.script({ timeoutMs, onData });
  } finally {
    await guest.close();
  }
}
