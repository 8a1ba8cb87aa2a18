import { type FormEvent, useEffect, useRef, useState } from 'react'
import { useChannel, useConnection } from './gateway'

type Said = { name: string; text: string }

const ROOMS = ['lobby', 'kitchen', 'garden']

export function App() {
  const [who, setWho] = useState<{ name: string } | null>(null)
  return <main>{who ? <Chat who={who} /> : <SignIn onDone={(name) => setWho({ name })} />}</main>
}

function SignIn({ onDone }: { onDone: (name: string) => void }) {
  return (
    <form onSubmit={submitted('name', onDone)}>
      <label className="grow">
        Your name <input name="name" maxLength={20} required autoFocus />
      </label>
      <button>Come in</button>
    </form>
  )
}

function Chat({ who }: { who: { name: string } }) {
  const [room, setRoom] = useState('lobby')
  const { centrifuge, state } = useConnection(who)
  const { publications, people } = useChannel<Said>(centrifuge, `room:${room}`)
  const [failure, setFailure] = useState('')
  const end = useRef<HTMLLIElement>(null)
  useEffect(() => void end.current?.scrollIntoView({ block: 'nearest' }), [publications])

  async function say(text: string) {
    try {
      await centrifuge?.publish(`room:${room}`, { text })
      setFailure('')
    } catch (error) {
      setFailure(`Not sent: ${(error as Error).message}`)
      return false
    }
  }

  return (
    <>
      <h1>Chat</h1>
      <p className="faint">
        You are {who.name}. <span className="pill" id="state">{state}</span>
      </p>
      <nav className="row">
        {ROOMS.map((each) => (
          <button key={each} className={each === room ? '' : 'plain'} onClick={() => setRoom(each)}>
            {each}
          </button>
        ))}
      </nav>
      <div className="columns">
        <ul className="log" aria-live="polite">
          {publications.map(({ name, text }, n) => (
            <li key={n} ref={n === publications.length - 1 ? end : null}>
              <b>{name}</b> {text}
            </li>
          ))}
        </ul>
        <div>
          <h2>Here</h2>
          <div id="people">
            {people.map((each) => (
              <div key={each}>{each}</div>
            ))}
          </div>
        </div>
      </div>
      <form onSubmit={submitted('text', say)}>
        <label className="grow">
          Message <input name="text" maxLength={500} required autoComplete="off" />
        </label>
        <button>Send</button>
      </form>
      <p className="bad" id="failure">{failure}</p>
    </>
  )
}

/** Takes a form's one field, which is empty at once, for more to be typed; the text comes back if the answer is false. */
const submitted = (field: string, take: (value: string) => unknown) => async (event: FormEvent<HTMLFormElement>) => {
  event.preventDefault()
  const input = event.currentTarget.elements.namedItem(field) as HTMLInputElement
  const value = input.value
  input.value = ''
  if ((await take(value)) === false && !input.value) input.value = value
}
