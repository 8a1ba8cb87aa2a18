import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [react()],
  // `npm run dev` serves the page while it is written, and uvicorn the rest
  server: { proxy: { '/connection': { target: 'http://127.0.0.1:8000', ws: true } } },
})
