/** Modes of the entries of an archive, as in `stat`. */
const DIRECTORY = 0o040755;
const SYMLINK = 0o120777;
const REGULAR = 0o100000;

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(8, '0');
const padded = (length: number): number => (length + 3) & ~3;

/**
 * An archive in cpio's "newc" format, as the kernel unpacks it into its first file system. Several archives one behind the other are one.
 * Folders are made as they are needed; a path that is added again is replaced by what comes last.
 */
export class CpioArchive {
  private readonly parts: Uint8Array[] = [];
  private readonly folders = new Set<string>();
  private inode = 1;

  /** @param path absolute or not; its folders are added */
  file(path: string, bytes: Uint8Array, { executable = false } = {}): this {
    const name = this.inFolder(path);
    return this.entry(name, REGULAR | (executable ? 0o755 : 0o644), bytes);
  }

  symlink(path: string, target: string): this {
    return this.entry(this.inFolder(path), SYMLINK, Buffer.from(target));
  }

  folder(path: string): this {
    const name = clean(path);
    if (name === '' || this.folders.has(name)) return this;
    const parent = name.slice(0, Math.max(name.lastIndexOf('/'), 0));
    this.folder(parent);
    this.folders.add(name);
    return this.entry(name, DIRECTORY, new Uint8Array(0));
  }

  private inFolder(path: string): string {
    const name = clean(path);
    this.folder(name.slice(0, Math.max(name.lastIndexOf('/'), 0)));
    return name;
  }

  private entry(name: string, mode: number, bytes: Uint8Array): this {
    const path = Buffer.from(`${name}\0`);
    const fields = [this.inode++, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, path.length, 0];
    const head = Buffer.concat([Buffer.from(`070701${fields.map(hex).join('')}`), path]);
    this.parts.push(pad(head), pad(bytes));
    return this;
  }

  /** The archive, with its end mark. */
  bytes(): Buffer<ArrayBuffer> {
    this.entry('TRAILER!!!', 0, new Uint8Array(0));
    return Buffer.concat(this.parts);
  }
}

function clean(path: string): string {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

function pad(bytes: Uint8Array): Uint8Array {
  const length = padded(bytes.length);
  if (length === bytes.length) return bytes;
  const whole = Buffer.alloc(length);
  whole.set(bytes);
  return whole;
}
