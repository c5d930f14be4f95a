import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { SdxiError } from '../errors.js';

const LOCK_POLL_MS = 200;
const LOCK_MS = 15 * 60_000;

/** Where fetched and built things are kept: `$SDXI_CACHE`, else `sdxi` in `$XDG_CACHE_HOME` or `~/.cache`. */
export function cacheFolder(): string {
  const { SDXI_CACHE, XDG_CACHE_HOME } = process.env;
  if (SDXI_CACHE) return SDXI_CACHE;
  return join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'sdxi');
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Takes a lock file; one whose process is gone is nobody's. */
async function lock(path: string): Promise<void> {
  for (const deadline = Date.now() + LOCK_MS; ; ) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const owner = Number(readIfThere(path));
    if (owner > 0 && !alive(owner)) rmSync(path, { force: true });
    else if (Date.now() > deadline) {
      throw new SdxiError('ERR_SDXI_BUSY', `process ${owner} has kept ${path} for too long`, { hint: 'end it, or remove that file' });
    } else await pause(LOCK_POLL_MS);
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/**
 * A folder of the cache that is made once: complete, or not there at all. Several processes may ask for the same one.
 * @param name of the folder; whatever its contents depend on is part of it
 * @param make fills a folder that is empty
 * @returns its path
 */
export async function cached(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const root = cacheFolder();
  const place = join(root, name);
  if (existsSync(place)) return place;
  try {
    mkdirSync(root, { recursive: true });
  } catch (cause) {
    throw new SdxiError('ERR_SDXI_SYSTEM', `the cache folder ${root} cannot be made`, {
      cause,
      hint: 'set SDXI_CACHE to a folder that you may write to',
    });
  }
  const lockPath = join(root, `${name}.lock`);
  const draft = join(root, `${name}.draft`);
  await lock(lockPath);
  try {
    if (existsSync(place)) return place;
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft);
    await make(draft);
    renameSync(draft, place);
    return place;
  } finally {
    rmSync(draft, { recursive: true, force: true });
    rmSync(lockPath, { force: true });
  }
}

/** Keeps the newest `count` folders whose name begins like this: they are cheap to make, and large. */
export function prune(prefix: string, count: number): void {
  const root = cacheFolder();
  const folders = readdirSync(root)
    .filter((name) => name.startsWith(prefix) && !name.endsWith('.lock') && !name.endsWith('.draft'))
    .map((name) => ({ path: join(root, name), time: statSync(join(root, name)).mtimeMs }))
    .sort((a, b) => b.time - a.time);
  for (const { path } of folders.slice(count)) rmSync(path, { recursive: true, force: true });
}
