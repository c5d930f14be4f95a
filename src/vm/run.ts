import { spawn } from 'node:child_process';
import { SdxiError } from '../errors.js';

/** What a program of this machine has come to. */
export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a program is run. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Ends the program. */
  readonly signal?: AbortSignal;
}

/** Runs a program and collects what it says, in English. @throws SdxiError ERR_SDXI_SYSTEM when it does not start, ERR_SDXI_ABORTED */
export function run(command: string, args: readonly string[], { cwd, env, signal }: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, signal, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env, LC_ALL: 'C' } });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.once('error', (cause) => reject(notStarted(command, cause, signal)));
    child.once('close', (code) => resolve({ code: code ?? 1, stdout, stderr }));
  });
}

function notStarted(command: string, cause: Error, signal: AbortSignal | undefined): SdxiError {
  if (signal?.aborted) return new SdxiError('ERR_SDXI_ABORTED', `${command}: aborted`, { cause });
  return new SdxiError('ERR_SDXI_SYSTEM', `${command} did not start`, {
    cause,
    hint: 'fetching takes apt-get, dpkg-deb and tar, as Debian has them: run this on Debian, or in a container of it',
    fields: { command },
  });
}

/** What usually stands behind the words of a program that failed, and what helps. */
const CURES: readonly (readonly [RegExp, string])[] = [
  [/no space left|not enough free space|enospc/i, 'the disk is full: free some space, or set SDXI_CACHE to a folder with 400 MB'],
  [
    /could not resolve|temporary failure|failed to fetch|unable to connect|could not connect|connection (timed out|refused)|network is unreachable/i,
    'the mirror cannot be reached: see that the network is up and that `apt-get update` works; what was fetched once works without a network',
  ],
  [
    /no_pubkey|not signed|gpg|signature/i,
    'the mirror is not signed by the keys of this machine: update the package debian-archive-keyring',
  ],
  [
    /does not have a release file|404 +not found/i,
    'the mirror has no such suite: name a full Debian mirror in SDXI_MIRROR, or see that yours carries trixie and trixie-backports',
  ],
  [/permission denied|eacces/i, 'set SDXI_CACHE to a folder that you may write to'],
];

/** The cure for a failure, by what the program said. */
export function cureFor(words: string): string {
  const found = CURES.find(([pattern]) => pattern.test(words));
  return found?.[1] ?? 'the packages come from the Debian mirror of this machine: see that `apt-get update` works';
}

/** Like {@link run}, for what has to succeed. @returns its standard output @throws SdxiError ERR_SDXI_SYSTEM with the cure */
export async function must(what: string, command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, options);
  if (code === 0) return stdout;
  const said = stderr.trim().split('\n').slice(-3).join(' ');
  throw new SdxiError('ERR_SDXI_SYSTEM', `${what} failed: ${said}`, { hint: cureFor(stderr), fields: { command, code } });
}
