import { open } from '../../mover/index.js';
import { type CommandModule, withJson } from '../command.js';
import { formatBytes, formatCount, formatPairs } from '../format.js';
import type { Terminal } from '../terminal.js';

/** What the mover tells about a function, or about a context of one: `name`, `state`, and plain values. */
interface Info {
  name: string;
  state: string;
  contexts?: Info[];
  [key: string]: unknown;
}

export const infoCommand: CommandModule = (program, terminal) => {
  const command = program
    .command('info')
    .description('open a function and print its limits, state and contexts as a tree')
    .argument('[uri]', 'function to look at', 'embedded:');
  withJson(command).action(async (uri: string) => {
    const mover = await open(uri);
    try {
      const functions = mover.info().functions as Info[];
      terminal.result(functions);
      for (const info of functions) terminal.print(tree(terminal, info));
    } finally {
      await mover.close();
    }
  });
};

function valueText(name: string, value: unknown): string {
  if (typeof value === 'number') {
    if (name.endsWith('Bytes')) return formatBytes(value);
    return name === 'opGroups' ? `0x${value.toString(16)}` : formatCount(value);
  }
  if (typeof value === 'object' && value !== null)
    return Object.entries(value)
      .map(([key, inner]) => `${inner} ${key}`)
      .join(', ');
  return String(value);
}

function tree(terminal: Terminal, { name, state, contexts = [], ...values }: Info, indent = ''): string {
  const inner = `${indent}  `;
  const rows = Object.entries(values).map(([key, value]) => [key, valueText(key, value)] as const);
  const lines = [
    `${indent}${terminal.out.bold(name)}  ${state}`,
    formatPairs(rows, inner),
    ...contexts.map((context) => tree(terminal, context, inner)),
  ];
  return lines.join('\n');
}
