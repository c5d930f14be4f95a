import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { AbortError, SdxiError } from '../errors.js';

const LOCK_POLL_MS = 200;
const LOCK_MS = 15 * 60_000;
/** A process that takes a lock writes its name at once. */
const NAMELESS_MS = 5000;
/** A folder that was used so recently may be in use. */
const FRESH_MS = 10 * 60_000;

/** Where fetched and built things are kept: `$SDXI_CACHE`, else `sdxi` in `$XDG_CACHE_HOME` or `~/.cache`. */
export function cacheFolder(): string {
  const { SDXI_CACHE, XDG_CACHE_HOME } = process.env;
  if (SDXI_CACHE) return resolve(SDXI_CACHE);
  return join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'sdxi');
}

/** Whether a folder of the cache is there: then it is whole. */
export function isCached(name: string): boolean {
  return existsSync(resolve(cacheFolder(), name));
}

export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Takes a lock file; one whose process is gone is nobody's. It only saves work that others do already: should two processes take over the
 * same lost lock at once, each has a draft of its own, and one of the two is kept.
 */
async function lock(path: string, signal: AbortSignal | undefined): Promise<void> {
  for (const deadline = Date.now() + LOCK_MS; ; ) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw notWritable(dirname(path), error);
    }
    const owner = Number(readIfThere(path));
    if (owner > 0 ? !alive(owner) : isOld(path)) rmSync(path, { force: true });
    else if (Date.now() > deadline) {
      throw new SdxiError('ERR_SDXI_BUSY', `process ${owner} has kept ${path} for too long`, { hint: 'end it, or remove that file' });
    } else await pause(LOCK_POLL_MS, undefined, { signal }).catch(() => {});
    if (signal?.aborted) throw new AbortError(`waiting for process ${owner}, which makes the same`);
  }
}

/** A lock without a name in it for so long was never finished: the disk was full, or its process was killed. */
function isOld(path: string): boolean {
  const made = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return made !== undefined && Date.now() - made > NAMELESS_MS;
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Drafts are named after the process that makes them: those of processes that are gone will never be finished. */
function removeLostDrafts(root: string): void {
  for (const name of readdirSync(root)) {
    const pid = /\.draft-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !alive(Number(pid))) removeIfOurs(join(root, name));
  }
}

/** The last step of making a folder. Whoever comes second takes what the first has made. */
function finish(draft: string, place: string): void {
  try {
    renameSync(draft, place);
  } catch (error) {
    if (!existsSync(place)) throw error;
  }
}

function notWritable(root: string, cause: unknown): SdxiError {
  return new SdxiError('ERR_SDXI_SYSTEM', `the cache folder ${root} cannot be written`, {
    cause,
    hint: 'set SDXI_CACHE to a folder that you may write to',
    fields: { folder: root },
  });
}

let drafts = 0;

/**
 * A folder of the cache that is made once: complete, or not there at all. Several processes may ask for the same one.
 * @param name of the folder; whatever its contents depend on is part of it
 * @param make fills a folder that is empty
 * @param signal ends the wait for another process that makes it
 * @returns its path
 * @throws SdxiError ERR_SDXI_SYSTEM for a cache that cannot be written, ERR_SDXI_BUSY, ERR_SDXI_ABORTED, and what `make` throws
 */
export async function cached(name: string, make: (folder: string) => Promise<void>, signal?: AbortSignal): Promise<string> {
  const root = cacheFolder();
  const place = join(root, name);
  if (existsSync(place)) return used(place);
  try {
    mkdirSync(root, { recursive: true });
  } catch (cause) {
    throw notWritable(root, cause);
  }
  const lockPath = join(root, `${name}.lock`);
  const draft = join(root, `${name}.draft-${process.pid}-${drafts++}`);
  await lock(lockPath, signal);
  try {
    if (existsSync(place)) return used(place);
    removeLostDrafts(root);
    mkdirSync(draft);
    await make(draft);
    finish(draft, place);
    return place;
  } finally {
    rmSync(draft, { recursive: true, force: true });
    rmSync(lockPath, { force: true });
  }
}

/** A folder's time is that of its last use, as far as this user may say so. */
function used(place: string): string {
  try {
    const now = new Date();
    utimesSync(place, now, now);
  } catch {} // a cache of somebody else, or one that is read-only, is good to read
  return place;
}

/** Keeps the newest `count` folders whose name begins like this, and those that may be in use: they are cheap to make, and large. */
export function prune(prefix: string, count: number, nowMs = Date.now()): void {
  const root = cacheFolder();
  const folders = readdirSync(root)
    .filter((name) => name.startsWith(prefix) && !name.includes('.lock') && !name.includes('.draft-'))
    // One that is gone was pruned by somebody else.
    .map((name) => ({ path: join(root, name), time: statSync(join(root, name), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.time - a.time);
  for (const { path, time } of folders.slice(count)) if (nowMs - time > FRESH_MS) removeIfOurs(path);
}

/** Removes what was left behind; what somebody else has left is theirs to remove. */
export function removeIfOurs(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {} // in a folder that many share, such as /tmp, only its owner may
}
