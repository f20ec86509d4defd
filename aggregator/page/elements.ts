/** Making and finding elements. Text always goes in as text, and style only as custom properties, so the page needs no inline style. */
import type { Reading } from './format.ts';

type Child = Node | string;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: { [name: string]: string } = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element #${id}`);
  return found;
}

/** A text that is touched only when it changes. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function setFlag(node: HTMLElement, name: string, on: boolean): void {
  if (on !== node.hasAttribute(name)) node.toggleAttribute(name, on);
}

/** A figure with its unit that can be changed in place. */
export class Figure {
  readonly node: HTMLElement;
  private readonly value = element('span', { class: 'value' }, '–');
  private readonly unit = element('span', { class: 'unit' });

  constructor(tag: 'p' | 'span' = 'span', className = 'figure') {
    this.node = element(tag, { class: className }, this.value, this.unit);
  }

  set({ text, unit }: Reading): void {
    setText(this.value, text);
    setText(this.unit, unit);
  }
}

export interface Cell {
  node: HTMLElement;
  figure: Figure;
}

/** A table cell with a figure; its label shows where the table has no head (narrow screens). */
export function figureCell(label: string, className = ''): Cell {
  const figure = new Figure();
  return { node: element('td', { role: 'cell', class: `number ${className}`.trim(), 'data-label': label }, figure.node), figure };
}

const TABLE_ROLES = { table: 'table', 'thead, tbody': 'rowgroup', tr: 'row', th: 'columnheader' };

/** Tables stay tables for screen readers where the style sheet lays them out as cards, which would end that. */
export function keepTableRoles(): void {
  for (const [selector, role] of Object.entries(TABLE_ROLES))
    for (const node of document.querySelectorAll(selector)) node.setAttribute('role', role);
}
