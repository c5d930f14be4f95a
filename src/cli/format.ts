import Table from 'cli-table3';

const STEPS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Bytes for people: `64 B`, `4 KiB`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let step = 0;
  while (value >= 1024 && step < STEPS.length - 1) {
    value /= 1024;
    step++;
  }
  return `${Number.isInteger(value) ? value : significant(value)} ${STEPS[step]}`;
}

/** A rate for people, in decimal units as datasheets give it: `9.8 GB/s`. */
export function formatRate(bytesPerSecond: number): string {
  if (bytesPerSecond >= 1e9) return `${significant(bytesPerSecond / 1e9)} GB/s`;
  if (bytesPerSecond >= 1e6) return `${significant(bytesPerSecond / 1e6)} MB/s`;
  return `${significant(bytesPerSecond / 1e3)} kB/s`;
}

/** A duration for people: `57 ns`, `4.2 µs`, `12 ms`, `3.4 s`. */
export function formatTime(seconds: number): string {
  if (seconds >= 1) return `${significant(seconds)} s`;
  if (seconds >= 1e-3) return `${significant(seconds * 1e3)} ms`;
  if (seconds >= 1e-6) return `${significant(seconds * 1e6)} µs`;
  return `${significant(seconds * 1e9)} ns`;
}

/** Three digits that count, without an exponent. */
export function significant(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (Math.abs(value) >= 100) return String(Math.round(value));
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** How fast compared with something else: 1 is as fast. */
export function formatRatio(value: number): string {
  return value > 0 && value < 0.01 ? '< 0.01' : significant(value);
}

/** Digits grouped by three: `16,384`. */
export function formatCount(value: number): string {
  return value.toLocaleString('en-US');
}

/** Rows with aligned columns and thin lines; colours are the caller's business. `left` counts the columns that are text. */
export function formatTable(head: string[], rows: readonly (readonly string[])[], { left = 1 }: { left?: number } = {}): string {
  const table = new Table({
    head,
    style: { head: [], border: [], compact: true },
    colAligns: head.map((_, column) => (column < left ? 'left' : 'right')),
  });
  for (const row of rows) table.push([...row]);
  return table.toString();
}

/** Rows of name and value without lines, for reports that are read from top to bottom. */
export function formatPairs(rows: readonly (readonly [string, string])[], indent = ''): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${indent}${name.padEnd(width)}  ${value}`).join('\n');
}

/** Words on lines of at most `width` columns. */
export function wrap(words: readonly string[], width = 100): string {
  const lines = [''];
  for (const word of words) {
    const line = lines[lines.length - 1];
    if (line !== '' && line.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines.join('\n');
}

/** A word as a shell takes it. */
export const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
