/** What the thread of a function tells the thread that started it. */
export type ThreadNews = { kind: 'ready' } | { kind: 'log'; line: string };
