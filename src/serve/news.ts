/** What the thread of a function tells the thread that started it. */
export type ThreadNews =
  | { kind: 'ready' }
  | { kind: 'log'; line: string }
  | { kind: 'client'; pid: number }
  | { kind: 'client-gone'; why: string; messages: number };

export const clientHere = (pid: number): ThreadNews => ({ kind: 'client', pid });
export const clientGone = (why: string, messages: number): ThreadNews => ({ kind: 'client-gone', why, messages });
