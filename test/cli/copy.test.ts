import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FailureJson, here, hereJson, interrupt, sdxiJson } from './run.js';

interface CopyJson {
  ok: boolean;
  bytes: number;
  descriptors: number;
  sha256: string;
  seconds: number;
}

const directory = mkdtempSync(join(tmpdir(), 'sdxi-copy-'));
const path = (name: string) => join(directory, name);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
/** No multiple of any block size below. */
const content = randomBytes(300_001);

beforeAll(() => writeFileSync(path('source'), content, { mode: 0o755 }));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('sdxi copy', () => {
  it('JSON has ok, bytes, descriptors, seconds and the SHA-256 of the destination', async () => {
    const { code, json, stderr } = await sdxiJson<CopyJson>(['copy', path('source'), path('destination')]);
    expect([code, stderr]).toEqual([0, '']);
    expect(json).toMatchObject({ ok: true, bytes: content.length, sha256: sha256(content) });
    expect(json.descriptors).toBeGreaterThanOrEqual(1);
    expect(json.seconds).toBeGreaterThan(0);
    expect(readFileSync(path('destination')).equals(content)).toBe(true);
    expect(statSync(path('destination')).mode & 0o777).toBe(0o755);
  });

  it.each([
    ['4k', Math.ceil(content.length / 4096)],
    ['100000', 4],
    ['64m', 1],
  ])('--block %s takes one descriptor a block', async (block, descriptors) => {
    const { code, json } = await hereJson<CopyJson>(['copy', path('source'), path(`block-${block}`), '--block', block]);
    expect(code).toBe(0);
    expect(json).toMatchObject({ ok: true, descriptors, sha256: sha256(content) });
  });

  it('a longer destination is cut to the length of the source', async () => {
    writeFileSync(path('long'), Buffer.alloc(content.length + 1000, 1));
    expect((await here(['copy', path('source'), path('long')])).code).toBe(0);
    expect(readFileSync(path('long')).equals(content)).toBe(true);
  });

  it('an empty file, and a directory as destination', async () => {
    writeFileSync(path('empty'), '');
    mkdirSync(path('folder'));
    const { code, json } = await hereJson<CopyJson>(['copy', path('empty'), path('folder')]);
    expect(code).toBe(0);
    expect(json).toMatchObject({ ok: true, bytes: 0, descriptors: 0, sha256: sha256(new Uint8Array(0)) });
    expect(existsSync(path('folder/empty'))).toBe(true);
  });

  it('text for people says what was verified', async () => {
    const { code, stdout } = await here(['copy', path('source'), path('text')]);
    expect(code).toBe(0);
    expect(stdout).toContain(sha256(content));
    expect(stdout).toMatch(/verified +yes/);
  });

  it('one bit flipped on the way is found, exit 1', async () => {
    const { code, json, stderr } = await hereJson<CopyJson>(['copy', path('source'), path('corrupt'), '--corrupt']);
    expect([code, json.ok]).toEqual([1, false]);
    expect(json.sha256).not.toBe(sha256(content));
    expect(stderr).toContain('differs');
  });

  it.each([
    ['a source that is not there', ['missing', 'x'], 1, 'ERR_SDXI_SYSTEM', 'missing'],
    ['a source that is a directory', ['.', 'x'], 2, 'ERR_SDXI_ARGUMENT', 'is a directory'],
    ['a folder that is not there', ['source', 'nowhere/x'], 1, 'ERR_SDXI_SYSTEM', 'nowhere/x'],
    ['the source as destination', ['source', 'source'], 2, 'ERR_SDXI_ARGUMENT', 'same file'],
  ])('%s: exit and error say so', async (_what, [from, to], exit, errorCode, message) => {
    const { code, json } = await hereJson<FailureJson>(['copy', path(from), path(to)]);
    expect([code, json.error.code]).toEqual([exit, errorCode]);
    expect(json.error.message).toContain(message);
    expect(readFileSync(path('source')).equals(content)).toBe(true);
  });

  it('a destination that is no file, and a block that is too large', async () => {
    const device = await hereJson<FailureJson>(['copy', path('source'), '/dev/null']);
    expect([device.code, device.json.error.code]).toEqual([2, 'ERR_SDXI_ARGUMENT']);
    const block = await hereJson<FailureJson>(['copy', path('source'), path('x'), '--block', '1g']);
    expect([block.code, block.json.error.code]).toEqual([2, 'ERR_SDXI_ARGUMENT']);
  });

  it('a source that is no regular file: reading it may never end', async () => {
    const { code, json } = await hereJson<FailureJson>(['copy', '/dev/zero', path('endless')]);
    expect([code, json.error.code]).toEqual([2, 'ERR_SDXI_ARGUMENT']);
    expect(json.error.message).toContain('no regular file');
    expect(existsSync(path('endless'))).toBe(false);
  });

  it('SIGINT leaves a destination that existed as it was, and nothing beside it', async () => {
    const folder = path('kept');
    mkdirSync(folder);
    writeFileSync(path('sparse'), '');
    truncateSync(path('sparse'), 8 * 2 ** 30);
    writeFileSync(join(folder, 'precious'), 'precious');
    const { code } = await sdxiJson<FailureJson>(['copy', path('sparse'), join(folder, 'precious'), '--block', '1m'], {
      onStart: interrupt,
    });
    expect(code).toBe(130);
    expect(readFileSync(join(folder, 'precious'), 'utf8')).toBe('precious');
    expect(readdirSync(folder)).toEqual(['precious']);
  });

  it('SIGINT ends it with exit 130 and leaves no half a file', async () => {
    // Sparse: it takes no space, and seconds to copy.
    writeFileSync(path('huge'), '');
    truncateSync(path('huge'), 8 * 2 ** 30);
    const { code, json } = await sdxiJson<FailureJson>(['copy', path('huge'), path('partial'), '--block', '1m'], {
      onStart: interrupt,
    });
    expect([code, json.error.code]).toEqual([130, 'ERR_SDXI_ABORTED']);
    expect(existsSync(path('partial'))).toBe(false);
  });
});
