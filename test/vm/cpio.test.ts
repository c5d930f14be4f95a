import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CpioArchive } from '../../src/vm/cpio.js';

interface Entry {
  name: string;
  mode: number;
  bytes: Buffer;
}

/** Reads "newc" by the description of the format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst). */
function parse(archive: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < archive.length; ) {
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const field = (n: number) => Number.parseInt(archive.toString('latin1', at + 6 + 8 * n, at + 14 + 8 * n), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const name = archive.toString('utf8', at + 110, at + 110 + nameSize - 1);
    expect(archive[at + 110 + nameSize - 1]).toBe(0);
    const data = (at + 110 + nameSize + 3) & ~3;
    entries.push({ name, mode, bytes: archive.subarray(data, data + size) });
    at = (data + size + 3) & ~3;
  }
  return entries;
}

const word = fc.stringMatching(/^[a-z][a-z0-9é._-]{0,9}$/);
const path = fc.array(word, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));

describe('cpio archives', () => {
  it('what goes in comes out: names, modes, bytes; each folder once and before what is in it', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(path, fc.uint8Array({ maxLength: 40 }), fc.boolean()), { selector: ([name]) => name }),
        (files) => {
          const archive = new CpioArchive();
          for (const [name, bytes, executable] of files) archive.file(`/${name}`, bytes, { executable });
          const entries = parse(archive.bytes());
          expect(entries.pop()?.name).toBe('TRAILER!!!');
          const folders = entries.filter(({ mode }) => mode === 0o040755).map(({ name }) => name);
          expect(new Set(folders).size).toBe(folders.length);
          const regular = entries.filter(({ mode }) => mode >> 12 === 0o10);
          expect(regular.map(({ name, mode, bytes }) => [name, mode & 0o777, Buffer.from(bytes)])).toEqual(
            files.map(([name, bytes, executable]) => [name, executable ? 0o755 : 0o644, Buffer.from(bytes)]),
          );
          for (const [i, { name }] of entries.entries()) {
            const parent = name.slice(0, Math.max(name.lastIndexOf('/'), 0));
            if (parent) expect(entries.slice(0, i).map((entry) => entry.name)).toContain(parent);
          }
        },
      ),
    );
  });

  it('a link keeps its target', () => {
    const entries = parse(new CpioArchive().symlink('bin/sh', 'busybox').bytes());
    expect(entries.map(({ name, mode, bytes }) => [name, mode, bytes.toString()])).toEqual([
      ['bin', 0o040755, ''],
      ['bin/sh', 0o120777, 'busybox'],
      ['TRAILER!!!', 0, ''],
    ]);
  });

  it.skipIf(spawnSync('cpio', ['--version']).status !== 0)('cpio itself lists the same names', () => {
    const input = new CpioArchive().file('a/b/c', Buffer.from('hello')).symlink('a/d', 'b/c').bytes();
    const { stdout, status } = spawnSync('cpio', ['-t', '--quiet'], { input, encoding: 'utf8' });
    expect([status, stdout]).toEqual([0, 'a\na/b\na/b/c\na/d\n']);
  });
});
