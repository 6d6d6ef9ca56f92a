import * as React from 'react';
import { duration, pot, timeLeft } from './format';
import { ICard, IOrder, PotLabModel } from './model';
import { Fact } from './orderCard';
import { CallError, call } from './request';

interface ITemplate {
  name: string;
  task: string;
  title: string;
  about: string;
  score: string;
  reward: string;
  train_for: string;
}

interface IQuote {
  cost_grains: string;
  reward_grains: string;
  fee_grains: string;
  bond_grains: string;
  balance_grains: string;
  after_grains: string;
  refund_grains: string;
  longest_ms: number;
  providers: number;
  validators: number;
  notes: string[];
  can_order: boolean;
}

interface IFields {
  template: string;
  title: string;
  reward: string;
  train_for: string;
  baseline: string;
}

/** What a baseline is counted in, by score function. */
const UNITS: { [score: string]: string } = {
  accuracy: 'a share: 0.9 for 90 %',
  mse: 'millionths: 500000 for 0.5',
  auc: 'millionths: 900000 for 90 %',
  mean_iou: 'millionths: 900000 for 90 %',
  macro_f1: 'millionths: 900000 for 90 %',
  next_token_loss: 'millionths of a nat: 2000000 for 2 nats'
};

/** A score function's name without its parameters. */
function baseName(score: string): string {
  return score.split(/[[/]/)[0];
}

/** Post an order: choose a template, set reward and time, see what it costs, and only then order. */
export function OrderForm(props: {
  model: PotLabModel;
  /** An earlier order to be ordered like. */
  again?: IOrder & Partial<ICard>;
  onInsert: (order: string) => void;
  onDone: (id: string) => void;
  onCancel: () => void;
}): JSX.Element {
  const { model, again } = props;
  const [templates, setTemplates] = React.useState<ITemplate[]>([]);
  const [fields, setFields] = React.useState<IFields | null>(null);
  const [quote, setQuote] = React.useState<IQuote | null>(null);
  const [problem, setProblem] = React.useState<{ text: string; field: string } | null>(null);
  const [busy, setBusy] = React.useState('Reading the templates…');
  // one for each quote that is shown: an order that is sent twice is paid once
  const attempt = React.useRef('');

  React.useEffect(() => {
    let isGone = false;
    call<{ templates: ITemplate[] }>(model.settings, 'templates')
      .then(answer => {
        if (!isGone) {
          setTemplates(answer.templates);
          setFields(again ? beginAgain(answer.templates, again) : begin(answer.templates[0]));
          setBusy('');
        }
      })
      .catch((error: Error) => {
        if (!isGone) {
          setProblem({ text: error.message, field: '' });
          setBusy('');
        }
      });
    return () => {
      isGone = true;
    };
  }, [model, again]);

  const change = (changes: Partial<IFields>): void => {
    setFields({ ...fields!, ...changes });
    setQuote(null);
    setProblem(null);
  };

  const ask = async (what: string, todo: () => Promise<void>): Promise<void> => {
    setBusy(what);
    setProblem(null);
    try {
      await todo();
    } catch (error) {
      const field = error instanceof CallError ? error.field : '';
      setProblem({ text: (error as Error).message, field });
      setQuote(null);
    }
    setBusy('');
  };

  const preview = (): Promise<void> =>
    ask('Asking the network…', async () => {
      setQuote(await call<IQuote>(model.settings, 'quote', fields));
      attempt.current = randomHex();
    });

  const send = (): Promise<void> =>
    ask('Checking, encrypting, uploading and paying… this may take a minute', async () => {
      const placed = await call<{ order: string }>(model.settings, 'orders', {
        attempt: attempt.current,
        order: fields
      });
      props.onDone(placed.order);
    });

  const template = templates.find(one => one.name === fields?.template);
  const unit = template ? UNITS[baseName(template.score)] : '';
  const isBusy = busy !== '';
  return (
    <form
      className="pot-Card pot-Form"
      aria-labelledby="pot-form-heading"
      data-testid="pot-form"
      noValidate
      onSubmit={event => {
        event.preventDefault();
        void (quote ? send() : preview());
      }}
    >
      <h3 id="pot-form-heading">{again ? 'Order again' : 'New order'}</h3>
      {again && !fields && templates.length > 0 && (
        <>
          <p className="pot-Hint">
            Model and data of “{again.title}” are in no template. A cell of a notebook orders them again, from the
            winner where there is one, with test data that nobody has seen.
          </p>
          <div className="pot-Buttons">
            <button className="jp-mod-styled" type="button" onClick={() => props.onInsert(again.id)}>
              Insert this cell
            </button>
          </div>
        </>
      )}
      {fields && template && (
        <fieldset disabled={isBusy}>
          <Field name="template" label="What to train" problem={problem} hint={template.about}>
            {attributes => (
              <select
                {...attributes}
                value={fields.template}
                onChange={event => change(begin(templates.find(one => one.name === event.target.value)!))}
              >
                {[...new Set(templates.map(one => one.task))].map(task => (
                  <optgroup key={task} label={task}>
                    {templates
                      .filter(one => one.task === task)
                      .map(one => (
                        <option key={one.name} value={one.name}>
                          {one.title}
                        </option>
                      ))}
                  </optgroup>
                ))}
              </select>
            )}
          </Field>
          <Text name="title" label="Title" fields={fields} change={change} problem={problem} />
          <Text name="reward" label="Reward, in POT" fields={fields} change={change} problem={problem} />
          <Text
            name="train_for"
            label="Training time"
            fields={fields}
            change={change}
            problem={problem}
            hint="such as 60s, 10min or 1h 30min"
          />
          <Text
            name="baseline"
            label="Score to beat (may be left empty)"
            fields={fields}
            change={change}
            problem={problem}
            hint={`Empty: that of the untrained model. For ${baseName(template.score)} ${unit}`}
          />
        </fieldset>
      )}
      {problem?.field === '' && (
        <p className="pot-Problem" role="alert" data-testid="pot-form-problem">
          {problem.text}
        </p>
      )}
      {quote && <Quote quote={quote} />}
      <p className="pot-Hint" role="status">
        {busy}
      </p>
      <div className="pot-Buttons">
        {quote ? (
          <button className="jp-mod-styled jp-mod-accept" type="submit" disabled={isBusy || !quote.can_order}>
            Order for {pot(quote.cost_grains)}
          </button>
        ) : (
          <button className="jp-mod-styled jp-mod-accept" type="submit" disabled={isBusy || !fields}>
            Preview
          </button>
        )}
        <button className="jp-mod-styled" type="button" onClick={props.onCancel}>
          Cancel
        </button>
      </div>
    </form>
  );
}

/** What the order costs and when, before anything is spent. */
function Quote(props: { quote: IQuote }): JSX.Element {
  const { quote } = props;
  return (
    <div data-testid="pot-quote">
      <Fact name="Costs now" value={pot(quote.cost_grains)} testId="pot-cost" />
      <Fact name="– reward" value={pot(quote.reward_grains)} />
      <Fact name="– fee" value={pot(quote.fee_grains)} />
      <Fact name="– bond, comes back" value={pot(quote.bond_grains)} />
      <Fact name="If none is better" value={`${pot(quote.refund_grains)} back`} testId="pot-refund" />
      <Fact name="Balance after" value={pot(quote.after_grains)} />
      <Fact name="Ends within" value={timeLeft(quote.longest_ms)} />
      <Fact name="Registered" value={`${quote.providers} providers, ${quote.validators} validators`} />
      {quote.notes.map(note => (
        <p key={note} className="pot-Problem" role="alert">
          {note}
        </p>
      ))}
    </div>
  );
}

interface IFieldAttributes {
  id: string;
  className: string;
  'aria-invalid': boolean;
  'aria-describedby': string;
}

function Field(props: {
  name: string;
  label: string;
  hint?: string;
  problem: { text: string; field: string } | null;
  children: (attributes: IFieldAttributes) => JSX.Element;
}): JSX.Element {
  const id = `pot-field-${props.name}`;
  const wrong = props.problem?.field === props.name ? props.problem.text : '';
  return (
    <div className="pot-Field">
      <label htmlFor={id}>{props.label}</label>
      {props.children({
        id,
        className: 'jp-mod-styled',
        'aria-invalid': wrong !== '',
        'aria-describedby': `${id}-hint`
      })}
      <p id={`${id}-hint`} className={wrong ? 'pot-Wrong' : 'pot-Hint'} role={wrong ? 'alert' : undefined}>
        {wrong || props.hint}
      </p>
    </div>
  );
}

function Text(props: {
  name: keyof IFields;
  label: string;
  hint?: string;
  fields: IFields;
  change: (changes: Partial<IFields>) => void;
  problem: { text: string; field: string } | null;
}): JSX.Element {
  return (
    <Field name={props.name} label={props.label} hint={props.hint} problem={props.problem}>
      {attributes => (
        <input
          {...attributes}
          type="text"
          autoComplete="off"
          maxLength={200}
          value={props.fields[props.name]}
          onChange={event => props.change({ [props.name]: event.target.value })}
        />
      )}
    </Field>
  );
}

function begin(template: ITemplate): IFields {
  const { name, title, reward, train_for } = template;
  return { template: name, title, reward, train_for, baseline: '' };
}

/** The template that an earlier order was made from, with its terms; null where it was made from none. */
function beginAgain(templates: ITemplate[], again: IOrder & Partial<ICard>): IFields | null {
  const template = templates.find(
    one => one.title === again.title && baseName(one.score) === baseName(again.score_name)
  );
  if (!template) {
    return null;
  }
  const reward = pot(again.reward_grains)
    .replace(' POT', '')
    .replace(/[^0-9.]/g, '');
  return { ...begin(template), reward, train_for: again.train_ms ? duration(again.train_ms) : template.train_for };
}

function randomHex(): string {
  const bytes = window.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, one => one.toString(16).padStart(2, '0')).join('');
}
