import { readFileSync } from 'node:fs';
import { ArgumentError } from '../../errors.js';
import {
  assemble,
  bytesOfKind,
  canonicalKind,
  type Dissection,
  describeFields,
  dissect,
  type FieldDescription,
  fromHex,
  isRegisterKind,
  KINDS,
  toHex,
} from '../../spec/index.js';
import { type CommandModule, withJson } from '../command.js';
import { formatTable, wrap } from '../format.js';
import { existingFile } from '../parse.js';

interface DecodeOptions {
  file?: string;
  as: string;
  encode?: boolean;
}

/** A value to show: its bytes, and how it was written. */
interface Item {
  kind: string;
  bytes: Uint8Array;
  /** Registers are numbers to people: `0x…` in, `0x…` out. Everything else is bytes in memory order. */
  asNumber: boolean;
}

const HELP = `
Bytes are in memory order, as many values one after the other as you like; spaces, line ends, commas and # comments do not matter.
A register (--as cap0) may be given as a number with 0x in front. A file is text of the same form, or the bytes themselves.

${wrap(['Kinds:', ...KINDS])}

Examples:
  sdxi decode 00030100ff0f0000 0000000000000000 0010000000000000 0020000000000000 …
  sdxi decode --as cap0 0x0000000816000801
  sdxi decode --encode '{"operation":"COPY","size":4096,"addr0":"0x1000","addr1":"0x2000","np":1}'
  sdxi decode --json HEX | sdxi decode --encode --file -`;

export const decodeCommand: CommandModule = (program, terminal) => {
  const command = program
    .command('decode')
    .description('descriptors, structures and registers to readable form, and back')
    .argument('[hex...]', 'hexadecimal bytes; with --encode, JSON')
    .option('-f, --file <path>', 'read from a file, - for standard input')
    .option('-a, --as <kind>', 'what the bytes are', 'descriptor')
    .option('--encode', 'the way back: JSON fields (or what decode --json printed) to bytes');
  withJson(command)
    .addHelpText('after', HELP)
    .action((words: string[], options: DecodeOptions) => {
      const kind = canonicalKind(options.as);
      const items = options.encode ? itemsFromJson(kind, textOf(words, options.file)) : itemsFromHex(kind, words, options.file);
      terminal.result(items.map(dissection));
      for (const item of items) terminal.print(options.encode ? dissection(item).hex : report(item, terminal.out));
    });
};

function read(file: string): Buffer {
  return file === '-' ? readFileSync(0) : readFileSync(existingFile(file));
}

function nothingGiven(what: string): ArgumentError {
  return new ArgumentError(`no ${what} given`, { hint: `give ${what} as arguments, or --file PATH (- for standard input)` });
}

function textOf(words: string[], file: string | undefined): string {
  const text = words.length > 0 ? words.join(' ') : file ? read(file).toString('utf8') : '';
  if (text.trim() === '') throw nothingGiven('JSON');
  return text;
}

/** Text is what consists of hexadecimal digits and what may stand between them; all else is the bytes themselves. */
function asText(data: Buffer): string | undefined {
  const text = data.toString('latin1').replace(/#.*$/gm, '');
  return /^[0-9a-fx\s_:,]*$/i.test(text) ? text : undefined;
}

function itemsFromHex(kind: string, words: string[], file: string | undefined): Item[] {
  const data = words.length === 0 && file ? read(file) : undefined;
  const text = data ? asText(data) : words.join(' ');
  const tokens = text?.split(/[\s,]+/).filter((token) => token !== '') ?? [];
  if (data ? data.length === 0 : tokens.length === 0) throw nothingGiven('hexadecimal bytes');
  if (isRegisterKind(kind) && tokens.length > 0 && tokens.every((token) => /^0x/i.test(token)))
    return tokens.map((token) => register(kind, token));
  const bytes = text === undefined ? (data as Uint8Array) : fromHex(tokens.map((token) => token.replace(/^0x/i, '')).join(''));
  return cut(kind, bytes).map((part) => ({ kind, bytes: part, asNumber: false }));
}

/** One value as long as its kind after the other. */
function cut(kind: string, bytes: Uint8Array): Uint8Array[] {
  const size = bytesOfKind(kind);
  if (bytes.length === 0 || bytes.length % size !== 0) {
    throw new ArgumentError(`not a whole number of values: ${bytes.length} bytes given, ${kind} has ${size}`, {
      fields: { kind, bytes: bytes.length },
      hint: `give ${size * 2} hexadecimal digits for each value, or name another kind with --as`,
    });
  }
  return Array.from({ length: bytes.length / size }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

function register(kind: string, token: string): Item {
  const digits = token.slice(2).replace(/[_:]/g, '');
  const size = bytesOfKind(kind);
  if (!/^[0-9a-f]+$/i.test(digits) || digits.length > size * 2) {
    throw new ArgumentError(`${token} is no register value`, {
      hint: `give up to ${size * 2} hexadecimal digits after 0x`,
      fields: { kind },
    });
  }
  return { kind, bytes: fromHex(digits.padStart(size * 2, '0')).reverse(), asNumber: true };
}

type JsonFields = Record<string, number | string>;

function itemsFromJson(kind: string, text: string): Item[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ArgumentError('this is no JSON', { cause, hint: 'quote it for your shell: \'{"operation":"NOP","np":1}\'' });
  }
  return (Array.isArray(value) ? value : [value]).map((entry: unknown) => itemFromJson(kind, entry));
}

/** Takes bare fields, and what `decode --json` printed: `{kind, fields, …}`. */
function itemFromJson(kind: string, entry: unknown): Item {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) {
    throw new ArgumentError('a value is described by a JSON object', {
      hint: 'give {"field": value, …}, or the array that decode --json prints',
    });
  }
  const printed = entry as { kind?: unknown; fields?: unknown };
  if (typeof printed.fields === 'object' && printed.fields !== null) {
    const own = typeof printed.kind === 'string' ? canonicalKind(printed.kind) : kind;
    return { kind: own, bytes: assemble(own, printed.fields as JsonFields), asNumber: false };
  }
  return { kind, bytes: assemble(kind, entry as JsonFields), asNumber: false };
}

function dissection({ kind, bytes, asNumber }: Item): Dissection {
  const result = dissect(kind, bytes);
  return asNumber ? { ...result, hex: `0x${toHex(fromHex(result.hex).reverse())}` } : result;
}

function valueText({ value, valueName }: FieldDescription): string {
  if (typeof value === 'string') return value;
  const number = value > 9 ? `${value} (0x${value.toString(16)})` : String(value);
  return valueName ? `${number} ${valueName}` : number;
}

function report(item: Item, { bold, dim }: { bold: (text: string) => string; dim: (text: string) => string }): string {
  const { kind, operation, hex } = dissection(item);
  const rows = describeFields(kind, item.bytes).map((field) => [field.name, field.place, valueText(field), field.meaning]);
  const title = operation ? `${kind} ${operation}` : kind === 'descriptor' ? 'descriptor of no known operation' : kind;
  return `${bold(title)} ${dim(hex)}\n${formatTable(['field', 'bits', 'value', 'meaning'], rows, { left: 4 })}`;
}
