import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArgumentError, ClosedError, SdxiError, TimeoutError } from '../errors.js';
import { ConsoleReader } from './console.js';
import { writeInitramfs } from './initramfs.js';
import { tools } from './packages.js';
import { fetchedQemu, type MachineOptions, machineArguments, namedQemu } from './qemu.js';

/** What {@link bootGuest} takes. */
export interface GuestOptions extends Partial<Omit<MachineOptions, 'console' | 'qmp'>> {
  /** Node, and this package as the command `sdxi`, are in the guest. */
  readonly node?: boolean;
  /** Further files, by their path in the guest. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** A QEMU of this machine in place of the fetched one. */
  readonly qemu?: string;
  /** How long the boot may take; default 120,000 ms: emulated processors on a busy machine are slow. */
  readonly bootMs?: number;
  /** Called before anything is fetched. */
  readonly onFetch?: () => void;
}

/** What a command in the guest has come to. */
export interface Outcome {
  /** Its exit status. */
  readonly code: number;
  /** Standard output and standard error. */
  readonly output: string;
}

const BOOT_MS = 120_000;
const RUN_MS = 60_000;
/** A line of the serial port holds so much. */
const COMMAND_MAX = 2800;
const QUIT_MS = 3000;

/** setpriv (util-linux) has the kernel end QEMU when this process ends, however it does. */
const SETPRIV = '/usr/bin/setpriv';

/** Everything that is needed to start a guest: the program, its arguments, and the folder that they name. */
export interface Prepared {
  readonly command: string;
  readonly args: readonly string[];
  readonly folder: string;
}

/** Fetches what is missing, makes the guest's file system, and says how to start it. */
export async function prepareGuest(options: GuestOptions, console: 'stdio' | 'file'): Promise<Prepared> {
  const {
    sockets = [],
    memoryMiB = 512,
    iommu = 'none',
    rootPort = false,
    kvm = false,
    reboot = false,
    kernelArgs = [],
    qemuArgs = [],
  } = options;
  const fetched = await tools(options.onFetch);
  const program = options.qemu === undefined ? fetchedQemu(fetched) : namedQemu(options.qemu);
  const folder = mkdtempSync(join(tmpdir(), 'sdxi-vm-'));
  const initrd = join(folder, 'initrd.cpio');
  await writeInitramfs(fetched, { node: options.node ?? false, files: options.files ?? {} }, initrd);
  const args = machineArguments(fetched.kernel, initrd, {
    sockets,
    memoryMiB,
    iommu,
    rootPort,
    kvm,
    reboot,
    kernelArgs,
    qemuArgs,
    console: console === 'stdio' ? 'stdio' : { file: join(folder, 'console') },
    qmp: console === 'stdio' ? undefined : join(folder, 'qmp'),
  });
  const whole = [program.command, ...program.args, ...args];
  const [command, ...rest] = existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'KILL', ...whole] : whole;
  return { command, args: rest, folder };
}

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
  private ready: (() => void) | undefined;
  private readonly onExit = () => this.child.kill('SIGKILL');

  constructor({ command, args, folder }: Prepared) {
    this.folder = folder;
    this.reader = new ConsoleReader(() => this.ready?.());
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    process.once('exit', this.onExit);
    this.child.stdout?.on('data', (bytes: Buffer) => this.reader.take(bytes));
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors = (this.errors + text).slice(-4000);
    });
    this.child.stdin?.on('error', () => {}); // QEMU is gone: `ended` says so
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.over = true;
        process.off('exit', this.onExit);
        resolve();
      };
      this.child.once('exit', end);
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

  private last(): string {
    const lines = `${this.console}\n${this.errors}`.split('\n').filter((line) => line.trim() !== '');
    return lines.slice(-12).join('\n');
  }

  private async within<T>(what: string, timeoutMs: number, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new TimeoutError(what, timeoutMs, { hint: `the last it said:\n${this.last()}\n${this.reader.output.slice(-2000)}` })),
        timeoutMs,
      );
    });
    const gone = this.ended.then(() => {
      throw new SdxiError('ERR_SDXI_SYSTEM', `QEMU has ended while ${what}`, { hint: `the last it said:\n${this.last()}` });
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
   * @param options.onData its output as it comes
   * @throws TimeoutError; SdxiError ERR_SDXI_SYSTEM when QEMU ends meanwhile; ArgumentError for a command that is too long
   */
  async run(
    command: string,
    { timeoutMs = RUN_MS, onData }: { timeoutMs?: number; onData?: (text: string) => void } = {},
  ): Promise<Outcome> {
    const text = Buffer.from(command).toString('base64');
    if (text.length > COMMAND_MAX)
      throw new ArgumentError('the command is too long for the serial port', { hint: 'put it in a file (files)' });
    if (this.over) throw new ClosedError('the guest');
    if (this.busy) throw new SdxiError('ERR_SDXI_BUSY', 'the guest runs a command already', { hint: 'wait for it' });
    this.busy = true;
    const mark = `m${++this.commands}`;
    try {
      const done = this.reader.expect(mark, onData);
      this.child.stdin?.write(`${mark} ${text}\n`);
      return await this.within(`running "${command.slice(0, 80)}" in the guest`, timeoutMs, done);
    } finally {
      this.reader.forget();
      this.busy = false;
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
    const socket = createConnection(join(this.folder, 'qmp'));
    socket.setEncoding('utf8');
    try {
      let text = '';
      const answer = async (key: string): Promise<unknown> => {
        for (;;) {
          for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
            const line = JSON.parse(text.slice(0, at)) as Record<string, unknown>;
            text = text.slice(at + 1);
            if (line.error) throw new SdxiError('ERR_SDXI_SYSTEM', `QEMU refuses ${execute}: ${JSON.stringify(line.error)}`);
            if (key in line) return line[key];
          }
          await new Promise<void>((resolve, reject) => {
            socket.once('data', (more) => {
              text += more;
              resolve();
            });
            socket.once('error', reject);
          });
        }
      };
      const talk = async () => {
        await answer('QMP');
        socket.write('{"execute":"qmp_capabilities"}\n');
        await answer('return');
        socket.write(`${JSON.stringify({ execute })}\n`);
        return await answer('return');
      };
      return await this.within(`asking QEMU for ${execute}`, 10_000, talk());
    } finally {
      socket.destroy();
    }
  }

  /** As the reset button does; needs `reboot`. Returns when the guest has booted again. */
  async systemReset(timeoutMs = BOOT_MS): Promise<void> {
    const again = this.booted(timeoutMs);
    await this.qmp('system_reset');
    await again;
  }

  /** Ends QEMU at once, as a crash would. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** Switches the guest off, and removes what belongs to it. Idempotent. */
  async close(): Promise<void> {
    if (!this.over) {
      this.child.kill('SIGCONT');
      this.child.stdin?.write(`off ${Buffer.from('poweroff -f').toString('base64')}\n`);
      const timer = setTimeout(() => this.child.kill('SIGKILL'), QUIT_MS);
      await this.ended;
      clearTimeout(timer);
    }
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
  const guest = new Guest(await prepareGuest(options, 'file'));
  try {
    await guest.booted(options.bootMs ?? BOOT_MS);
    return guest;
  } catch (error) {
    await guest.close();
    throw error;
  }
}
