import type { SingleBar } from 'cli-progress';
import cliProgress from 'cli-progress';
import pc from 'picocolors';
import { SdxiError } from '../errors.js';

/** What the exit status of every command means. */
export const ExitCode = { OK: 0, FAILED: 1, USAGE: 2, INTERRUPTED: 130, TERMINATED: 143 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

type Colors = ReturnType<typeof pc.createColors>;

/** Colours only for a terminal that takes them: NO_COLOR (no-color.org) wins over everything, FORCE_COLOR over pipes. */
function colorsFor(stream: NodeJS.WriteStream): Colors {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  const wanted = !NO_COLOR && (FORCE_COLOR ? FORCE_COLOR !== '0' : stream.isTTY === true && TERM !== 'dumb');
  return pc.createColors(wanted);
}

/** 64-bit values leave as `0x…` strings: JSON numbers end at 2^53. */
function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `0x${value.toString(16)}` : value;
}

function fieldText(value: unknown): string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  return typeof value === 'object' ? JSON.stringify(value, plain) : String(value);
}

/** Messages of causes that say more than the error itself. */
function causesOf(error: Error): string[] {
  const causes: string[] = [];
  for (let cause = error.cause; cause instanceof Error && causes.length < 4; cause = cause.cause) causes.push(cause.message);
  return causes.filter((message) => message !== error.message);
}

/** What a failed command prints to stdout in `--json` mode. */
export interface ErrorReport {
  ok: false;
  error: { code: string; message: string; hint?: string; [field: string]: unknown };
}

/** An error as data: code, message, hint, and the error's own fields beside them. */
export function reportOf(error: unknown): ErrorReport {
  if (error instanceof SdxiError) {
    const { code, message, hint, fields } = error;
    // Fields of an error that are named like the fixed keys would take their place.
    const extra = Object.fromEntries(Object.entries(fields).filter(([name]) => !['code', 'message', 'hint'].includes(name)));
    return { ok: false, error: { code, message, hint, ...extra } };
  }
  const { code, message } = error instanceof Error ? (error as NodeJS.ErrnoException) : { code: undefined, message: String(error) };
  return { ok: false, error: { code: typeof code === 'string' ? code : 'ERR_INTERNAL', message } };
}

/** Where the commands write: results to stdout, everything about the run to stderr. One for each call of `main`. */
export class Terminal {
  readonly json: boolean;
  readonly out: Colors;
  readonly err: Colors;

  constructor(options: { json: boolean }) {
    this.json = options.json;
    this.out = colorsFor(process.stdout);
    this.err = colorsFor(process.stderr);
  }

  /** One line (or block) of a report for people; nothing in `--json` mode. */
  print(text = ''): void {
    if (!this.json) process.stdout.write(`${text}\n`);
  }

  /** The result of a command in `--json` mode; nothing otherwise. */
  result(value: unknown): void {
    if (this.json) process.stdout.write(`${JSON.stringify(value, plain, 2)}\n`);
  }

  /** A remark about the run. */
  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  /** An error with its cause, its fields and its hint. `command` is what the user typed, such as `sdxi copy`. */
  fail(command: string, error: unknown): void {
    const { red, bold, dim } = this.err;
    const message = error instanceof Error ? error.message : String(error);
    const code = error instanceof SdxiError ? ` ${dim(`(${error.code})`)}` : '';
    this.note(`${bold(`${command}:`)} ${red(message)}${code}`);
    if (error instanceof Error) for (const cause of causesOf(error)) this.note(`  ${dim('cause:')} ${cause}`);
    if (error instanceof SdxiError) {
      const fields = Object.entries(error.fields).filter(([, value]) => value !== undefined);
      if (fields.length > 0) this.note(`  ${dim('where:')} ${fields.map(([name, value]) => `${name}=${fieldText(value)}`).join(' ')}`);
      if (error.hint) this.note(`  ${dim('hint: ')} ${error.hint}`);
    } else if (error instanceof Error && (error as NodeJS.ErrnoException).code === undefined) {
      this.note(error.stack ?? '');
    }
    this.result(reportOf(error));
  }

  /** A progress bar on stderr when that is a terminal, from the first update on; nothing otherwise. `text` says how far it is. */
  progress(label: string, text: (done: number) => string): Progress {
    if (this.json || !process.stderr.isTTY) return SILENT;
    let bar: SingleBar | undefined;
    return {
      update: (done, total) => {
        if (!bar) {
          bar = new cliProgress.SingleBar({
            format: `${label} [{bar}] {percentage}% {text} {eta_formatted} left`,
            stream: process.stderr,
            hideCursor: true,
            clearOnComplete: true,
            barsize: 30,
          });
          bar.start(total, 0, { text: text(0) });
        }
        bar.update(Math.min(done, total), { text: text(done) });
      },
      stop: () => bar?.stop(),
    };
  }
}

export interface Progress {
  update(done: number, total: number): void;
  stop(): void;
}

const SILENT: Progress = { update: () => {}, stop: () => {} };
