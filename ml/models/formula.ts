/**
 * Power models written as formulas of x (occupation, a fraction) and y (average packet length, bytes), one per router type, in a JSON
 * file. They are parsed into a tree and compiled to closures, never evaluated as code; derivatives that are not given are worked out
 * symbolically.
 */
import { all, create, type MathJsInstance, type MathNode } from 'mathjs/number';
import type { JsonText } from '../../common/config.ts';
import { messageOf, NdtError } from '../../common/errors.ts';
import type { Inference, Model, ModelInput } from '../model.ts';

const VARIABLES = new Set(['x', 'y']);
const CONSTANTS = new Set(['pi', 'e']);
const FUNCTIONS = new Set([
  'abs',
  'cbrt',
  'ceil',
  'cos',
  'exp',
  'floor',
  'log',
  'log10',
  'log2',
  'max',
  'min',
  'pow',
  'round',
  'sign',
  'sin',
  'sqrt',
  'tan',
  'tanh',
]);
const NODES = new Set([
  'ConstantNode',
  'SymbolNode',
  'OperatorNode',
  'ParenthesisNode',
  'FunctionNode',
  'ConditionalNode',
  'RelationalNode',
]);
const FIELDS = ['description', 'version', 'power', 'by_occupation', 'by_packet_length'];

type Formula = (scope: { x: number; y: number }) => number;

class FormulaModel implements Model {
  readonly name: string;
  readonly version: string;
  private readonly power: Formula;
  private readonly byOccupation: Formula;
  private readonly byPacketLength: Formula;

  constructor(name: string, version: string, formulas: { power: Formula; byOccupation: Formula; byPacketLength: Formula }) {
    this.name = name;
    this.version = version;
    this.power = formulas.power;
    this.byOccupation = formulas.byOccupation;
    this.byPacketLength = formulas.byPacketLength;
  }

  infer(inputs: readonly ModelInput[]): Promise<Inference[]> {
    return Promise.resolve(
      inputs.map(({ occupation, packetLength }) => {
        const scope = { x: occupation, y: packetLength };
        return { power: this.power(scope), byOccupation: this.byOccupation(scope), byPacketLength: this.byPacketLength(scope) };
      }),
    );
  }
}

/**
 * The models of a file: `{"A": {"power": "700 + 20 x^2 - 0.0008 y", "by_occupation"?: …, "by_packet_length"?: …}}`.
 * @throws NdtError CONFIG with the place of a formula that does not parse, names an unknown variable or has no derivative
 */
export function formulaModels(file: string, { value, lineOf }: JsonText): Map<string, Model> {
  const math = create(all ?? {});
  const models = new Map<string, Model>();
  if (!isObject(value) || Object.keys(value).length === 0)
    throw new NdtError('CONFIG', `${file}: expected an object from router type to its model, with at least one`);
  for (const [type, model] of Object.entries(value)) {
    if (type === '$schema') continue;
    const place = (field?: string) =>
      `${file}${lineOf(field === undefined ? [type] : [type, field])}: ${type}${field === undefined ? '' : `.${field}`}`;
    if (!isObject(model)) throw new NdtError('CONFIG', `${place()}: expected an object with the formula "power"`);
    for (const [field, text] of Object.entries(model)) {
      if (!FIELDS.includes(field)) throw new NdtError('CONFIG', `${place(field)}: there is no such field; there are: ${FIELDS.join(', ')}`);
      if (typeof text !== 'string') throw new NdtError('CONFIG', `${place(field)}: expected text, got ${typeof text}`);
    }
    const { version, power, by_occupation, by_packet_length } = model as { [field: string]: string | undefined };
    if (power === undefined) throw new NdtError('CONFIG', `${place()}: expected the formula "power"`);
    const tree = parseFormula(math, power, place('power'));
    const derivative = (given: string | undefined, field: string, variable: string) =>
      given === undefined ? derive(math, tree, variable, place('power'), field) : parseFormula(math, given, place(field));
    models.set(
      type,
      new FormulaModel(type, version ?? '1', {
        power: compile(tree),
        byOccupation: compile(derivative(by_occupation, 'by_occupation', 'x')),
        byPacketLength: compile(derivative(by_packet_length, 'by_packet_length', 'y')),
      }),
    );
  }
  return models;
}

function parseFormula(math: MathJsInstance, text: string, place: string): MathNode {
  let tree: MathNode;
  try {
    tree = math.parse(text);
  } catch (error) {
    throw new NdtError('CONFIG', `${place}: "${text}" is no formula: ${messageOf(error)}`);
  }
  tree.traverse((node, path) => {
    if (!NODES.has(node.type))
      throw new NdtError('CONFIG', `${place}: "${text}": ${node.type.replace(/Node$/, '').toLowerCase()} is not allowed in a formula`);
    const name = 'name' in node && typeof node.name === 'string' ? node.name : '';
    if (node.type === 'FunctionNode' && !FUNCTIONS.has(name)) {
      throw new NdtError(
        'CONFIG',
        `${place}: "${text}": there is no function "${node.toString().split('(')[0]}"; there are: ${[...FUNCTIONS].join(', ')}`,
      );
    }
    if (node.type === 'SymbolNode' && path !== 'fn' && !VARIABLES.has(name) && !CONSTANTS.has(name)) {
      throw new NdtError(
        'CONFIG',
        `${place}: "${text}": unknown variable "${name}"; known are x (occupation, a fraction) and y (average packet length, bytes)`,
      );
    }
  });
  return tree;
}

function derive(math: MathJsInstance, tree: MathNode, variable: string, place: string, field: string): MathNode {
  try {
    return math.derivative(tree, variable);
  } catch (error) {
    throw new NdtError(
      'CONFIG',
      `${place}: its derivative by ${variable} cannot be worked out (${messageOf(error)}): give it as "${field}"`,
    );
  }
}

function compile(tree: MathNode): Formula {
  const code = tree.compile();
  return (scope) => Number(code.evaluate(scope));
}

function isObject(value: unknown): value is { [name: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
